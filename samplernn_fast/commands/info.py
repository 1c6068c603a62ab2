"""The commands that only tell: `info` about a model, `doctor` about this machine."""

import json as json_module

import tyro


def info(model: tyro.conf.Positional[str] = "demo", /, *, json: bool = False) -> None:
    """What a model is: its settings, size, hash and how it was trained.

    Args:
        model: Run folder, .safetensors file, or the bundled demo.
        json: Print one JSON object instead of text.
    """
    from samplernn_fast import api
    from samplernn_fast.models import checkpoint
    from samplernn_fast.training.keeping import kept_models

    described = checkpoint.describe(api.model_path(model))
    if json:
        print(json_module.dumps(described))
        return
    for name in ("file", "made_by", "parameters", "model_sha256"):
        print(f"{name:12} {described[name]}")
    for name, value in described["config"].items():
        print(f"  {name:18} {value}")
    for name in ("imported", "step", "seconds", "train_bits", "valid_bits", "data"):
        if name in described["info"]:
            print(f"{name:12} {described['info'][name]}")
    origin = described["info"].get("initialized_from")
    if origin:
        print(f"{'started from':12} {origin['file']} ({origin['model_sha256'][:8]})")
    for kept in kept_models(api.model_path(model)):
        bits = "" if kept.bits is None else f", {kept.bits:.3f} bits"
        print(f"{'kept':12} {kept.path} (step {kept.step}{bits})")


def doctor(*, json: bool = False) -> None:
    """What this machine can run, and why not the rest.

    Args:
        json: Print one JSON object instead of text.
    """
    from samplernn_fast.backends.diagnosis import diagnose

    report = diagnose()
    if json:
        print(json_module.dumps(report))
        return
    width = max(len(name) for values in report.values() for name in values)
    for section, values in report.items():
        print(section)
        for name, value in values.items():
            print(f"  {name:{width}} {value}")
