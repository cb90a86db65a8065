"""onnxruntime sessions on packed models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from nnc_codec.errors import InvalidArgumentError

from . import runtime_settings as settings
from .carriage import DOMAIN, FORMAT, FORMAT_KEY, OPSET
from .errors import CarriageError, UnsupportedCarriageError
from .graph_scan import GraphScan, scan_graph
from .library import RuntimeStats, sharing, stats
from .model_head import ModelHead, model_bytes, read_head
from .runtime_errors import raise_typed

__all__ = ["DEFAULT_CACHE_BYTES", "InferenceSession", "RuntimeStats", "register", "stats"]

if TYPE_CHECKING:
    import onnxruntime as ort
else:
    ort = settings.require_onnxruntime()

DEFAULT_CACHE_BYTES = 64 << 20
_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"

# The cache rounds sizes up; "all" leaves room for that in any model of sensible size.
_ROUNDING = 1 << 20
_UNBOUNDED = 1 << 62

Budget = int | float | Literal["all"]
Providers = Sequence[str | tuple[str, dict[Any, Any]]]


def register(
    session_options: ort.SessionOptions, *, mode: str = "auto", cache_bytes: Budget = DEFAULT_CACHE_BYTES
) -> None:
    """Prepare session options for packed models, for people who build their own session.

    Registers the decode operators and switches memory patterns and memory reuse off. Options keep the mode and
    budget they were first registered with.

    Args:
        session_options: changed in place.
        mode: ``"lazy"``, ``"cache"``, or ``"auto"``, which is ``"cache"`` here. ``"eager"`` needs
            :class:`InferenceSession`.
        cache_bytes: budget for decoded tensors that are kept between uses, in bytes, or ``"all"``. All caching
            sessions of the process share one cache; the largest budget of the living ones counts.

    Raises:
        InvalidArgumentError: `mode` is unknown or ``"eager"``, or `cache_bytes` is no budget.
        LibraryMissingError, RegistrationError, RuntimeTooOldError: the operators cannot be registered.
    """
    checked = settings.check_mode(mode)
    if checked == "eager":
        raise InvalidArgumentError(
            "eager decoding replaces the model, which session options cannot",
            hint="use nnc_onnx.InferenceSession",
        )
    settings.apply(session_options, 0 if checked == "lazy" else _budget(cache_bytes, None))


class InferenceSession(ort.InferenceSession):  # type: ignore[misc]
    """An :class:`onnxruntime.InferenceSession` for packed and plain models.

    A plain model passes through unchanged. Of a packed one the weights stay compressed (``"lazy"``, ``"cache"``)
    or are decoded while loading (``"eager"``). The weights are the same bits in every mode. So are the outputs where
    onnxruntime runs the same kernels; for weights that are constants of the model it may prepack, fold and
    fuse, which can change the last bits; ``session.disable_prepacking`` = 1 and optimizations off prevent it.

    Args:
        path_or_bytes: the model. External data are found as onnxruntime finds them.
        sess_options: as for onnxruntime. For a lazy session :func:`register` is applied to them.
        providers: as for onnxruntime.
        provider_options: as for onnxruntime.
        mode: ``"lazy"``: each weight is decoded when it is used, and dropped. ``"cache"``: as many as
            `cache_bytes` allow are kept, and missing ones are decoded ahead on idle threads. ``"eager"``: all are
            decoded into a temporary file that onnxruntime maps; the file is removed once the session stands.
            ``"auto"``: cache if the session computes on the CPU provider alone, else eager, because any other
            provider would copy each decoded weight to its device at each run.
        cache_bytes: budget for decoded tensors that are kept between uses: bytes (int), a fraction of all decoded
            tensors (float, 0 to 1), or ``"all"``; see :func:`register`.
        kwargs: as for onnxruntime.

    Raises:
        FileAccessError: the model cannot be read.
        InvalidModelError, TruncatedModelError: it is no ONNX model, or not all of one.
        UnsupportedCarriageError: it was packed with a newer format.
        CarriageError: a payload or its description is damaged.
        LibraryMissingError, RegistrationError: the decode operators cannot be registered.
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes,
        sess_options: ort.SessionOptions | None = None,
        providers: Providers | None = None,
        provider_options: Sequence[dict[Any, Any]] | None = None,
        *,
        mode: str = "auto",
        cache_bytes: Budget = DEFAULT_CACHE_BYTES,
        **kwargs: Any,
    ) -> None:
        checked = settings.check_mode(mode)
        with model_bytes(path_or_bytes) as data:
            head = read_head(
                data, "the data" if isinstance(path_or_bytes, bytes) else os.fspath(path_or_bytes)
            )
        self._nnc_source: str | os.PathLike[str] | bytes | None = None
        arguments = (providers, provider_options)
        if not is_packed(head):
            try:
                super().__init__(path_or_bytes, sess_options, *arguments, **kwargs)
            except Exception as error:
                if f"{DOMAIN}:" in str(error):
                    raise CarriageError(
                        f"the model has nodes of domain {DOMAIN} but does not import its operator set",
                        hint="the file is damaged or truncated",
                    ) from error
                raise
            return
        if head.is_ort_format and checked == "eager":
            raise InvalidArgumentError(
                "a model in ORT format cannot be decoded eagerly", hint="use mode='lazy'"
            )
        options = sess_options if sess_options is not None else ort.SessionOptions()
        coded = checked in ("lazy", "cache") or head.is_ort_format
        if coded or (checked == "auto" and settings.uses_only_cpu(providers, options)):
            scan = None
            if checked != "lazy" and not head.is_ort_format:
                with model_bytes(path_or_bytes) as data:
                    scan = scan_graph(data)
            budget = 0 if checked == "lazy" else _budget(cache_bytes, scan)
            settings.apply(options, budget, lend=scan is not None)
            try:
                with sharing(scan.shareable if scan is not None and budget else ()):
                    super().__init__(path_or_bytes, options, *arguments, **kwargs)
            except Exception as error:
                raise_typed(error)
                raise
            return
        from .eager import expanded

        self._nnc_source = path_or_bytes
        with expanded(path_or_bytes, base_dir=_external_folder(options)) as plain:
            super().__init__(plain, options, *arguments, **kwargs)

    def set_providers(
        self, providers: Providers | None = None, provider_options: Sequence[dict[Any, Any]] | None = None
    ) -> None:
        """Make the session anew with other providers, as onnxruntime does; an eager one decodes again."""
        if self._nnc_source is None:
            super().set_providers(providers, provider_options)
            return
        from .eager import expanded

        with expanded(self._nnc_source, base_dir=_external_folder(self._sess_options)) as plain:
            self._model_path = os.fspath(plain)
            super().set_providers(providers, provider_options)

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None
    ) -> Sequence[Any]:
        """As onnxruntime's; what a decode operator reports is raised as a typed error."""
        try:
            return super().run(output_names, input_feed, run_options)  # type: ignore[no-any-return]
        except Exception as error:
            raise_typed(error)
            raise

    def run_with_iobinding(self, iobinding: Any, run_options: Any = None) -> None:
        """As onnxruntime's; what a decode operator reports is raised as a typed error."""
        try:
            super().run_with_iobinding(iobinding, run_options)
        except Exception as error:
            raise_typed(error)
            raise


def _budget(cache_bytes: Budget, scan: GraphScan | None) -> int:
    """`cache_bytes` as a number of bytes."""
    if isinstance(cache_bytes, str):
        if cache_bytes != "all":
            raise InvalidArgumentError(f"cache_bytes = {cache_bytes!r} is neither a number nor 'all'")
        return scan.decoded_bytes + _ROUNDING if scan is not None else _UNBOUNDED
    if isinstance(cache_bytes, float):
        if not 0 <= cache_bytes <= 1:
            raise InvalidArgumentError(
                f"cache_bytes = {cache_bytes} is no fraction", hint="give bytes as int"
            )
        if scan is None:
            raise InvalidArgumentError("a fraction needs a model", hint="use nnc_onnx.InferenceSession")
        return int(cache_bytes * (scan.decoded_bytes + _ROUNDING))
    if cache_bytes < 0:
        raise InvalidArgumentError(f"cache_bytes = {cache_bytes} is negative")
    return cache_bytes


def is_packed(head: ModelHead) -> bool:
    """Whether a model needs the decode operators, after a check that this release has them.

    A model in ORT format counts as packed: its inside is not looked at, and the operators do no harm.

    Raises:
        UnsupportedCarriageError: the model was packed with a newer format or operator set.
    """
    if head.is_ort_format:
        return True
    version, opset = head.metadata.get(FORMAT_KEY), head.opsets.get(DOMAIN)
    hint = "a newer release of onnx-nnc wrote this model"
    if version is not None and version != FORMAT:
        raise UnsupportedCarriageError(
            f"carriage format {version!r} is unknown; this release reads {FORMAT!r}", hint=hint
        )
    if opset is not None and opset != OPSET:
        raise UnsupportedCarriageError(
            f"version {opset} of operator set {DOMAIN} is unknown; this release has {OPSET}", hint=hint
        )
    return opset is not None


def _external_folder(options: ort.SessionOptions) -> str | None:
    try:
        return str(options.get_session_config_entry(_EXTERNAL_FOLDER))
    except RuntimeError:
        return None
