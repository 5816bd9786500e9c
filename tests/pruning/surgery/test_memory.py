"""What planning and proof take of the memory of a process, beside the network itself."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from torchvision import models
from admm_exp.pruning.surgery.find import find_groups

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

model, image = models.resnet50().eval(), torch.randn(1, 3, 224, 224)
with torch.no_grad():
    model(image)
before = peak()
find_groups(model, image)
print((peak() - before) / sum(p.nbytes for p in model.parameters()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in KiB as Linux does")
def test_planning_takes_less_than_three_times_the_network() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert 0.0 < float(done.stdout) < 3.0
