"""The settings of ADMM: every value out of range is refused with the range."""

import subprocess
import sys

import pytest

from admm_exp.admm.settings import AdmmSettings
from admm_exp.config.settings import Schedule


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"admm_iterations": 0}, "at least 1, got 0"),
        ({"admm_epoch": 0}, "at least 1, got 0"),
        ({"admm_lr": 0.0}, "greater than 0, got 0.0"),
        ({"admm_decay": "step"}, "one of constant, cosine, joint, thirds, got 'step'"),
        ({"admm_warmup": 1.0}, r"in \[0, 1\), got 1.0"),
        ({"lr_per": "batch"}, "one of step, epoch, got 'batch'"),
        ({"w_step": "none"}, "one of gradient, folded, proximal, reduced, got 'none'"),
        ({"relaxation": 0.0}, r"in \(0, 2\), got 0.0"),
        ({"relaxation": 2.0}, r"in \(0, 2\), got 2.0"),
        ({"sparsity_ramp": 1.1}, r"in \[0, 1\], got 1.1"),
        ({"stopping": "never"}, "one of budget, residuals, support, got 'never'"),
        ({"stable_iterations": 0}, "at least 1, got 0"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(settings, allowed):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be {allowed}"):
        AdmmSettings(**({"admm_iterations": 1} | settings))


def test_ends_of_ranges_are_allowed():
    settings = AdmmSettings(1, sparsity_ramp=1.0, admm_warmup=0.0, relaxation=1.999)
    assert settings.epochs == 1


def test_the_command_line_takes_its_defaults_from_here():
    for name, default in AdmmSettings.__dict__.items():
        if name in AdmmSettings.__dataclass_fields__ and name != "admm_lr":
            assert getattr(Schedule, name) == default, name


def test_checking_settings_does_not_load_torch():
    code = "import sys, admm_exp.config.settings; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
