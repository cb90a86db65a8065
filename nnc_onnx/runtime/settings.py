"""onnxruntime itself: that it is there and new enough, and the session settings that lazy decoding needs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from nnc_codec.errors import InvalidArgumentError

from .errors import RegistrationError, RuntimeMissingError, RuntimeTooOldError, from_native
from .library import get_library_path, load_library

if TYPE_CHECKING:
    import onnxruntime

Mode = Literal["auto", "lazy", "cache", "eager", "int8"]
MODES: tuple[str, ...] = ("auto", "lazy", "cache", "eager", "int8")
OLDEST = (1, 17)
OLDEST_LENDING = (1, 23)
OLDEST_FOLDER = (1, 23)  # finds external data of a model that is given as bytes
OLDEST_INTEGER_BLOCKS = (1, 22)

# Execution providers that compute in the memory of the CPU provider's tensors. Any other would copy every
# decoded weight to its device at every run.
_CPU_PROVIDERS = frozenset({"CPUExecutionProvider", "AzureExecutionProvider"})
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
_REGISTERED = "onnx_nnc.registered"
_MOST_THREADS = 8


def require_onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        RuntimeMissingError: it is not installed or fails to import.
        RuntimeTooOldError: it is older than 1.17.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissingError(
            f"onnxruntime cannot be imported: {error}", hint="pip install 'onnxruntime>=1.17'"
        ) from error
    if onnxruntime_version() < OLDEST:
        version = getattr(onnxruntime, "__version__", "") or "of unknown version"
        raise RuntimeTooOldError(
            f"onnxruntime {version} is too old, 1.17 or newer is needed",
            hint="pip install -U onnxruntime, or use onnx-nnc unpack",
        )
    return onnxruntime


def onnxruntime_version() -> tuple[int, int]:
    """Major and minor version of onnxruntime, (0, 0) if it cannot be told."""
    import onnxruntime

    found = re.match(r"(\d+)\.(\d+)", str(getattr(onnxruntime, "__version__", "")))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def check_mode(mode: str) -> Mode:
    """`mode` if it is one.

    Raises:
        InvalidArgumentError: it is not.
    """
    if mode not in MODES:
        raise InvalidArgumentError(f"mode = {mode!r} is none of {', '.join(MODES)}")
    return mode  # type: ignore[return-value]


def uses_only_cpu(
    providers: Sequence[str | tuple[str, dict[Any, Any]]] | None, options: onnxruntime.SessionOptions | None
) -> bool:
    """Whether a session with these providers computes on the CPU provider alone.

    Without providers onnxruntime takes those that it was built with, or those of the session options.
    """
    if providers:
        names = {item if isinstance(item, str) else item[0] for item in providers}
        return names <= _CPU_PROVIDERS
    # Providers may have been added to the session options instead (onnxruntime 1.22 and newer).
    has_providers = getattr(options, "has_providers", None)
    if has_providers is not None and has_providers():
        return False
    return set(require_onnxruntime().get_available_providers()) <= _CPU_PROVIDERS


def maps_payloads(source: str | os.PathLike[str] | bytes) -> bool:
    """Whether onnxruntime may map the payloads of the model in `source` from its file.

    Windows would not let the file be replaced or removed meanwhile.
    """
    if isinstance(source, bytes) or os.name != "posix":
        return False
    return os.path.isfile(source) and not os.path.islink(source)


def external_folder(options: onnxruntime.SessionOptions) -> str | None:
    """Where the options say that external data are, if they do."""
    try:
        return str(options.get_session_config_entry(EXTERNAL_FOLDER)) or None
    except RuntimeError:
        return None


def is_registered(options: onnxruntime.SessionOptions) -> bool:
    """Whether :func:`apply` was called on these session options before."""
    try:
        return bool(options.get_session_config_entry(_REGISTERED) == "1")
    except RuntimeError:
        return False


def apply(
    options: onnxruntime.SessionOptions,
    cache_bytes: int = 0,
    *,
    lend: bool = False,
    levels: bool = False,
    recode: bool = False,
) -> None:
    """Register the decode operators in `options` and switch off what would keep decoded tensors alive.

    Args:
        options: changed in place.
        cache_bytes: budget for decoded tensors kept between uses; 0 keeps none.
        recode: read payloads once and go on from a form that decodes faster.
        levels: hold the integers of tensors where the budget is too small for their values.
        lend: let onnxruntime 1.23 and newer use cached tensors in place where :func:`library.sharing` allows.

    Memory patterns plan one block for all tensors of a run, and memory reuse keeps a buffer per distinct
    shape; both make a lazy session hold several decoded weights instead of one.

    Raises:
        LibraryMissingError: there is no native library.
        RegistrationError: onnxruntime refuses it.
        RuntimeTooOldError: onnxruntime is older than 1.17.
    """
    # Without these two onnxruntime would put activations into the memory of tensors that the cache lends.
    options.enable_mem_pattern = False
    options.enable_mem_reuse = False
    if is_registered(options):
        return
    load_library()
    threads = min(options.intra_op_num_threads or os.cpu_count() or 1, _MOST_THREADS)
    options.add_session_config_entry("onnx_nnc.threads", str(threads))
    options.add_session_config_entry("onnx_nnc.recode", str(int(recode)))
    if cache_bytes > 0:
        options.add_session_config_entry("onnx_nnc.cache_bytes", str(cache_bytes))
        options.add_session_config_entry("onnx_nnc.ahead", str(threads - 1))
        options.add_session_config_entry("onnx_nnc.cache_levels", str(int(levels)))
        if lend and onnxruntime_version() >= OLDEST_LENDING:
            options.add_session_config_entry("onnx_nnc.lend", "1")
            options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        options.register_custom_ops_library(get_library_path())
    except Exception as error:
        typed = from_native(error)
        raise (typed or RegistrationError(f"onnxruntime refuses the run-time library: {error}")) from error
    options.add_session_config_entry(_REGISTERED, "1")
