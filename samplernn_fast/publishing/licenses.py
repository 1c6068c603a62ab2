"""The licence of a model: what must be said. No torch, so that a command can refuse before it loads."""

from samplernn_fast.errors import ConfigError, did_you_mean, quoted

_COMMON = "mit, apache-2.0, cc0-1.0, cc-by-4.0, cc-by-sa-4.0, cc-by-nc-4.0, openrail, other"
_ALL = "https://huggingface.co/docs/hub/repositories-licenses"
# The Hub's words in August 2026. Of several versions the newest stands first, because that is the one to be guessed.
_KNOWN = (
    "mit apache-2.0 cc0-1.0 cc-by-4.0 cc-by-3.0 cc-by-2.5 cc-by-2.0 cc-by-sa-4.0 cc-by-sa-3.0 cc-by-nc-4.0 cc-by-nc-3.0"
    " cc-by-nc-2.0 cc-by-nd-4.0 cc-by-nc-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-sa-4.0 cc-by-nc-sa-3.0 cc-by-nc-sa-2.0 cc"
    " openrail openrail++ bigscience-openrail-m bigscience-bloom-rail-1.0 creativeml-openrail-m bigcode-openrail-m"
    " openmdw-1.1 openmdw-1.0 bsd bsd-3-clause bsd-3-clause-clear bsd-2-clause gpl gpl-3.0 gpl-2.0 lgpl lgpl-3.0"
    " lgpl-2.1 lgpl-lr agpl-3.0 gfdl mpl-2.0 epl-2.0 epl-1.0 eupl-1.2 eupl-1.1 ecl-2.0 etalab-2.0 afl-3.0 artistic-2.0"
    " bsl-1.0 isc lppl-1.3c ms-pl ncsa ofl-1.1 osl-3.0 postgresql unlicense wtfpl zlib c-uda cdla-permissive-2.0"
    " cdla-permissive-1.0 cdla-sharing-1.0 odc-by odbl pddl apple-ascl apple-amlr deepfloyd-if-license"
    " fair-noncommercial-research-license gemma grok2-community h-research intel-research llama4 llama3.3 llama3.2"
    " llama3.1 llama3 llama2 unknown other"
).split()


def check_license(license: str) -> str:
    """The Hub's word for a licence, in small letters. Raises ConfigError where none is given, or the Hub has none such.

    For a licence that the Hub has no word for, as for one newer than this list, its word is "other".
    """
    word = license.lower()
    if word not in _KNOWN:
        got = f"got {quoted(license)}{did_you_mean(word, _KNOWN)}" if license else "and is never guessed"
        raise ConfigError(
            f"license must say under which terms others may use the model, in a word of the Hub, {got}"
            f"{' Common' if got.endswith('?') else '; common'} ones are {_COMMON} (all: {_ALL})"
        )
    return word
