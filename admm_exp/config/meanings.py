"""What every setting means, in one line each: for --help and the page of all settings.

A part's own settings (`dataset.*`, `model.*`, ...) are told by the comments of its YAML, and those
that many parts share here.
"""

MEANINGS = {
    "dataset": "what is learnt",
    "model": "the network that is pruned",
    "granularity": "what one unit of pruning is",
    "metric": "how a unit is scored",
    "method": "how the network gets sparse; all with the same cut and number of epochs",
    "rho_policy": "how rho changes over the ADMM iterations; a schedule brings its own, this wins",
    "train_fn": "{_target_: pkg.train}: your (model, optimizer, epoch, batches) -> loss or None",
    "validate_fn": "{_target_: pkg.validate}: your (model, batches) -> accuracy in [0, 1]",
    "schedule": "how long and how fast every phase trains",
    "schedule.name": "of the schedule, in reports",
    "schedule.batch_size": "samples a step",
    "schedule.dense": "training of the dense network",
    "schedule.dense.epochs": "epochs; 0 takes the network as it is",
    "schedule.dense.lr": "highest learning rate",
    "schedule.dense.decay": "how the learning rate falls over the phase",
    "schedule.dense.warmup": "fraction of the phase over which the learning rate rises",
    "schedule.finetune": "training of the small network",
    "schedule.finetune.epochs": "epochs; 0: none",
    "schedule.finetune.lr": "highest learning rate",
    "schedule.finetune.decay": "how the learning rate falls over the phase",
    "schedule.finetune.warmup": "fraction of the phase over which the learning rate rises",
    "schedule.finetune.distillation": "the dense network as a teacher of the small one",
    "schedule.finetune.distillation.weight": "share of the teacher in the loss; 0: no teacher",
    "schedule.finetune.distillation.temperature": "by which both outputs are softened",
    "schedule.admm_iterations": "W/Z/U rounds",
    "schedule.admm_lr": "highest learning rate of ADMM training",
    "schedule.admm_epoch": "epochs between two updates of Z and U",
    "schedule.admm_decay": "how it falls; joint: one cosine with finetuning, which has no warm-up "
    "of its own then; thirds: x0.1 after each third of every iteration",
    "schedule.admm_warmup": "fraction of ADMM training over which the learning rate rises; joint: "
    "finetuning included",
    "schedule.lr_per": "learning rates follow every step, or all steps of an epoch share one",
    "schedule.w_step": "how W is pulled: gradient, folded: by gradients; proximal: after the step, "
    "any optimizer; reduced: only what is to be removed",
    "schedule.relaxation": "over-relaxation; 1 is none",
    "schedule.dual_step": "what U takes of what an iteration leaves: all, or only as much as its "
    "steps had time to remove, so that nothing is pulled past zero",
    "schedule.sparsity_ramp": "fraction of the iterations over which it rises; 0: at once",
    "schedule.masked_share": "last part of the iterations in which what is to be removed stays at "
    "zero, so that the cut loses nothing; where the sparsity rises, what was pulled at for an "
    "iteration stays there too; 0: pulled to the end",
    "schedule.stopping": "what ends ADMM: all iterations, small residuals (w_step=reduced: the "
    "primal one, and no unit exchanged), or a stable support",
    "schedule.stable_iterations": "iterations without a change that make a support stable",
    "schedule.freeze_support": "whether a stable support is kept from then on",
    "schedule.admm_distillation": "the dense network as a teacher during ADMM training",
    "schedule.admm_distillation.weight": "share of the teacher in the loss; 0: no teacher",
    "schedule.admm_distillation.temperature": "by which both outputs are softened",
    "schedule.recalibration_batches": "training batches that batch norms see again after the cut",
    "schedule.accumulation": "batches whose gradients are averaged into one step",
    "schedule.clip_norm": "largest norm of a step's gradient, before ADMM's pull; null: no limit",
    "schedule.epoch_parts": "parts of a pass over the training data that count as an epoch each: "
    "more checkpoints and updates of Z and U in a pass",
    "schedule.optimizer": "the optimizer of all phases",
    "schedule.optimizer.name": "of torch.optim",
    "schedule.optimizer.momentum": "of SGD",
    "schedule.optimizer.weight_decay": "of all weights",
    "schedule.optimizer.nesterov": "Nesterov's momentum, of SGD",
    "tracking": "where curves and results go",
    "tracking.name": "of the tracker",
    "trainer": "how a training step computes, and who shares it",
    "trainer.precision": "number format of training: tf32 on GPUs, half where it is native",
    "trainer.compile": "torch.compile for training: true, or its mode default, reduce-overhead "
    "(CUDA graphs, for small networks), max-autotune; each network's first step takes a minute",
    "trainer.devices": "processes that share every batch, each with a GPU where there are GPUs",
    "trainer.patience_seconds": "how long a process that does not answer is waited for",
    "sparsity": "fraction of the units that every group loses",
    "rho": "penalty parameter of the first iteration; auto: from the learning rates",
    "layers": "a file with a sparsity per layer, in place of sparsity; admm-exp-plan writes one",
    "pretrained": "a file with the weights of the dense network, which is then not trained",
    "from_run": "the folder of a finished run whose small network is pruned further",
    "channel_multiple": "the kept channels of a group are rounded to a multiple of this, as 8",
    "keep_streams": "keep residual streams whole: widths across which a norm or mean counts",
    "budget": "chooses the sparsity of every group, in place of sparsity; give one",
    "budget.macs": "fraction of the dense network's MACs that remains, in (0, 1)",
    "budget.params": "fraction of its parameters, in (0, 1)",
    "budget.latency": "fraction of its time for a forward pass, measured on the device, in (0, 1)",
    "budget.latency_batch": "samples of that forward pass",
    "budget.allocation": "one sparsity for all groups, one ranking of all channels, or as measured",
    "seed": "of the weights, the order of the data and what is drawn at random",
    "device": "auto, cpu, cuda, cuda:1, mps",
    "name": "of the run; null: rho=...,sparsity=...",
    "experiment_name": "of the experiment in MLflow",
    "tracking_uri": "MLflow's store; MLFLOW_TRACKING_URI wins over the default, this over both",
    "force": "finished jobs run again; hydra.run.dir may hold a run, which is overwritten",
    "export": "onnx: the small network as model.onnx too; needs the extra [export]",
    "figures": "auto: all runs but the jobs of a sweep, which draws those of its best; all; none",
    "inference": "all: times both networks also channels last, compiled and in ONNX Runtime",
    "output": "what is written: the layers file (none: only shown), the folder of the report",
    "parent": "run id of a sweep: its jobs alone, whatever their experiment",
    "filter": "MLflow's filter over the runs, such as params.model = 'resnet20'",
    "port": "on 127.0.0.1; the next free one if it is taken",
    "runs": "folder of runs, at any depth",
}
SHARED = {
    "name": "in reports, tables and MLflow",
    "root": "folder of the data",
    "download": "fetch the data if they are not in root",
    "batch_size": "samples a step, of the schedule",
    "seed": "of the run",
    "val_fraction": "fraction of the training data that choices are made on",
    "test_fraction": "fraction of all images that is the test set",
    "split_seed": "decides which images are validation, the same for all runs",
    "crop_padding": "pixels around a training image before a random crop; 0: no crop",
    "flip": "mirror every second training image",
    "img_size": "side of the images",
    "crop_fraction": "side of the middle that validation and test see, as a share of the image's",
    "train_size": "images that training and validation share",
    "test_size": "test images",
    "draw_seed": "decides which images are drawn",
    "noise": "standard deviation of the noise on every pixel",
    "train_images": "how many of the training images are used, all classes alike; null: all",
    "width": "channels of the first stage",
    "width_multiplier": "scales the channels of every layer",
    "architecture": "name in the library; that of the model",
    "pretrained": "true: the weights that the library has for it",
    "image_size": "side of the images that a network for one size is built for; null: its own",
    "weights": "DEFAULT or a name of the library: pretrained weights; null: random ones",
    "highest": "rho as a multiple of its start value",
}


def meaning_of(key: str, comments: dict[str, str]) -> str:
    """Say what a setting means; "" if nobody has said it.

    Args:
        key: Dotted name.
        comments: What the YAML of a part says, by dotted name.
    """
    if key in MEANINGS:
        return MEANINGS[key]
    told = (SHARED.get(key.rpartition(".")[2], ""), comments.get(key, ""))
    return "; ".join(filter(None, told))
