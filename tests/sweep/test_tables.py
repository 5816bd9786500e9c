from support.runs import row

from admm_exp.sweep.tables import best_table, front_table, seed_table


def test_a_sweep_over_seeds_alone_has_a_name_in_its_tables():
    rows = [
        row(seed=seed, accuracy=a, run_name=f"seed={seed}") for seed, a in enumerate((0.9, 0.92))
    ]
    assert seed_table(rows)[1][:2] == ("all seeds", "91.00% +- 1.41 (n 2)")
    assert front_table(rows)[1][0] == "all seeds"
    assert best_table(rows) == []
