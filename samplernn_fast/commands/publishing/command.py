"""The command `publish`: a model with its card, into a folder or to the Hub. The room `publishing` does the work."""

from pathlib import Path
from typing import Any

import tyro

from samplernn_fast import hub, terminal
from samplernn_fast.commands.flags import OptionalOut
from samplernn_fast.errors import ConfigError


def publish(
    model: tyro.conf.Positional[str],
    /,
    *,
    to: str | None = None,
    out: OptionalOut = None,
    license: str = "",
    name: str = "",
    about: str = "",
    data: Path | None = None,
    test: bool = False,
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload a model of samplernn_fast",
    overwrite: bool = False,
) -> None:
    """Give a model to others, with a card made from its run: to the Hugging Face Hub, or into a folder.

    The token of `hf auth login` is used, or HF_TOKEN.

    Args:
        model: Run folder, .safetensors file, or a bundled model: demo or demo-piano.
        to: Repository of the Hub, OWNER/NAME, which is made where it is not there.
        out: Folder to write to instead; look at its README.md before it goes to the Hub.
        license: Under which terms others may use the model, in the Hub's words, such as mit, cc-by-4.0 or other.
        name: Title of the card; otherwise the name of the repository or folder.
        about: A paragraph of your own below the title, in Markdown.
        data: Data folder that the model was trained on, where it lies elsewhere than the run read it.
        test: Score the test split of the data for the card, which takes a while.
        private: Make a new repository that is not public.
        revision: Branch to send to, which must be there; otherwise the main one.
        message: What the commit says.
        overwrite: Replace what is in the folder; text of your own in README.md is kept.
    """
    if (to is None) == (out is None):
        got = "none of them" if to is None else "both"
        raise ConfigError(f"publish needs either --to, a repository of the Hub, or --out, a folder; got {got}")
    from samplernn_fast.models.places import model_file
    from samplernn_fast.publishing.licenses import check_license
    from samplernn_fast.publishing.places import check_folder

    check_license(license)  # refuses before torch is loaded, as do the next lines
    if to is not None:
        hub.repository(to, revision)
    elif revision is not None or private:
        flag = "--private" if private else "--revision"
        raise ConfigError(f"{flag} is for a repository of the Hub, which --to names")
    if out is not None:
        check_folder(out, overwrite)
    model_file(model)
    with terminal.waiting("loading torch"):
        from samplernn_fast.publishing.repository import push_to_hub, save_pretrained
    with terminal.Bar(None, "sample", title="scoring the test split", prefixes=True, shown=test) as bar:
        settings: dict[str, Any] = {"license": license, "name": name, "about": about, "data": data, "test": test}
        if out is not None:
            folder = save_pretrained(model, out, overwrite=overwrite, progress=bar.advance, **settings)
            print(f"{folder}: model.safetensors, config.json and the card README.md")
            return
        assert to is not None
        settings |= {"private": private, "revision": revision, "message": message}
        print(push_to_hub(model, to, progress=bar.advance, **settings))
