"""The digest of a data set."""

import os

import torch

from admm_exp.data.fingerprint import fingerprint

IMAGES = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)


def test_same_parts_give_the_same_digest():
    assert fingerprint(IMAGES, "crop 1") == fingerprint(IMAGES.clone(), "crop 1")


def test_one_pixel_changes_the_digest():
    changed = IMAGES.clone()
    changed[1, 0, 3, 3] = 1
    assert fingerprint(changed) != fingerprint(IMAGES)


def test_shape_and_dtype_change_the_digest():
    others = (IMAGES.flatten(), IMAGES.view(torch.int8))
    assert len({fingerprint(part) for part in (IMAGES, *others)}) == 3


def test_values_count_and_not_the_order_in_memory():
    image = torch.arange(6).reshape(2, 3)
    assert fingerprint(image.t().contiguous().t()) == fingerprint(image)


def test_texts_do_not_run_together():
    assert fingerprint("ab", "c") != fingerprint("a", "bc")


def test_names_of_files_need_not_be_utf_8():
    assert fingerprint(os.fsdecode(b"caf\xe9")) != fingerprint(os.fsdecode(b"caf\xe8"))
