"""onnxruntime sessions on packed models."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nnc_codec.errors import InvalidArgumentError

from ..carriage import DOMAIN, FORMAT, FORMAT_KEY, OPSET
from ..errors import CarriageError, UnsupportedCarriageError
from ..model_head import ModelHead, model_bytes, read_head
from . import settings as settings
from .budget import DEFAULT_CACHE_BYTES, Budget, budget_bytes
from .errors import raise_typed
from .library import RuntimeStats, count_constants, sharing, stats
from .session_plan import SessionPlan, Wishes, plan_session

__all__ = ["DEFAULT_CACHE_BYTES", "InferenceSession", "RuntimeStats", "register", "stats"]

if TYPE_CHECKING:
    import onnxruntime as ort
else:
    ort = settings.require_onnxruntime()

Providers = Sequence[str | tuple[str, dict[Any, Any]]]


def register(
    session_options: ort.SessionOptions,
    *,
    mode: str = "auto",
    cache_bytes: Budget | None = None,
    cache_levels: bool = True,
    recode: bool = True,
) -> None:
    """Prepare session options for packed models, for people who build their own session.

    Registers the decode operators and switches memory patterns and memory reuse off. Options keep the mode and
    budget they were first registered with. Every weight stays coded: constants need a changed model, which only
    :class:`InferenceSession` makes.

    Args:
        session_options: changed in place.
        mode: ``"lazy"``, ``"cache"``, or ``"auto"``, which is ``"cache"`` here. The others need
            :class:`InferenceSession`.
        cache_bytes: budget for decoded tensors that are kept between uses, in bytes, or ``"all"``; 64 MiB by
            default. All caching sessions of the process share one cache; the largest budget of the living ones
            counts.
        cache_levels, recode: as for :class:`InferenceSession`.

    Raises:
        InvalidArgumentError: `mode` is unknown or needs a changed model, or `cache_bytes` is no budget.
        LibraryMissingError, RegistrationError, RuntimeTooOldError: the operators cannot be registered.
    """
    checked = settings.check_mode(mode)
    if checked in ("eager", "int8"):
        raise InvalidArgumentError(
            f"mode {checked} replaces the model, which session options cannot",
            hint="use nnc_onnx.InferenceSession",
        )
    budget = 0 if checked == "lazy" else budget_bytes(cache_bytes, None)
    settings.apply(session_options, budget, levels=cache_levels, recode=recode)


class InferenceSession(ort.InferenceSession):  # type: ignore[misc]
    """An :class:`onnxruntime.InferenceSession` for packed and plain models.

    A plain model passes through unchanged. Of a packed one each weight is either a constant, decoded while loading,
    or stays coded and is decoded when it is used. The weights are the same bits in every mode. So are the outputs
    where onnxruntime runs the same kernels; weights that are constants of the model it may prepack, fold and
    fuse, which can change the last bits; ``session.disable_prepacking`` = 1 and optimizations off prevent it.

    Args:
        path_or_bytes: the model. External data are found as onnxruntime finds them.
        sess_options: as for onnxruntime. For a session with coded weights :func:`register` is applied to them.
        providers: as for onnxruntime.
        provider_options: as for onnxruntime.
        mode: ``"lazy"``: each weight is decoded when it is used, and dropped; only the small kernels of depthwise
            convolutions and what is tiny beside the rest are constants if `resident`. ``"cache"``: decoded weights
            within `cache_bytes` are kept, as constants if `resident`. ``"eager"``: every weight is a constant, as fast
            as the plain model and as large. ``"auto"``: cache on the CPU provider, so that a model whose decoded
            weights fit the budget is eager; eager with any other provider, which would copy each decoded weight to
            its device at each run. ``"int8"``: matrix products compute on 8-bit weights, approximately, in a quarter of
            the memory and faster; see :mod:`nnc_onnx.runtime.integer_weights`.
        cache_bytes: budget for decoded tensors: bytes (int), a fraction of all of them (float, 0 to 1), or
            ``"all"``. ``None``: 64 MiB.
        resident: spend the budget on constants first, chosen as :mod:`nnc_onnx.runtime.residency` says; what is left
            keeps tensors decoded in a run for the next one. ``False``: nothing is decoded before the first run, and
            all of the budget is shared with the other sessions of the process.
        cache_levels: where the budget is too small for the values of all weights, keep the integers they are coded as,
            in about a quarter of the memory, and multiply them by the step at every use. The values are the same bits.
        recode: read each payload once, at the first use of the weight, and go on from a recoded form of the same
            integers, which takes about a sixth more memory than the payload and becomes values fifty times as fast.
            ``False``: every use decodes the payload, unless the cache has the weight.
        kwargs: as for onnxruntime.

    Attributes:
        plan: how the weights of a packed model are held, ``None`` for a plain one.

    Raises:
        FileAccessError: the model cannot be read, or there is no room for a temporary copy.
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
        cache_bytes: Budget | None = None,
        resident: bool = True,
        cache_levels: bool = True,
        recode: bool = True,
        **kwargs: Any,
    ) -> None:
        checked = settings.check_mode(mode)
        name = "the data" if isinstance(path_or_bytes, bytes) else os.fspath(path_or_bytes)
        with model_bytes(path_or_bytes) as data:
            head = read_head(data, name)
        self.plan: SessionPlan | None = None
        if not is_packed(head):
            try:
                super().__init__(path_or_bytes, sess_options, providers, provider_options, **kwargs)
            except Exception as error:
                if f"{DOMAIN}:" in str(error):
                    raise CarriageError(
                        f"the model has nodes of domain {DOMAIN} but does not import its operator set",
                        hint="the file is damaged or truncated",
                    ) from error
                raise
            return
        self._nnc_source = path_or_bytes
        self._nnc_wishes = Wishes(checked, cache_bytes, resident, cache_levels, recode)
        self._nnc_is_ort_format = head.is_ort_format
        self._nnc_own_options = sess_options is None
        options = sess_options if sess_options is not None else ort.SessionOptions()
        self._nnc_options = options  # the session's own are a copy by then
        with self._prepared(options, providers) as ready:
            super().__init__(ready, options, providers, provider_options, **kwargs)

    @contextlib.contextmanager
    def _prepared(
        self, options: ort.SessionOptions, providers: Providers | None
    ) -> Iterator[str | os.PathLike[str] | bytes]:
        """What onnxruntime makes the session of; sets :attr:`plan`. Errors in the block become typed ones."""
        source = ready = self._nnc_source
        only_cpu = settings.uses_only_cpu(providers, options)
        folder = None if self._nnc_own_options else settings.external_folder(options)
        if folder is not None and not isinstance(source, bytes):
            # The model's own file is not in the folder that its external data are in.
            with model_bytes(source) as data:
                source = bytes(data)
        maps = folder is None and settings.maps_payloads(source)
        plan = plan_session(
            source, self._nnc_wishes, only_cpu=only_cpu, is_ort_format=self._nnc_is_ort_format, in_place=maps
        )
        with contextlib.ExitStack() as stack:
            if plan.mode in ("lazy", "cache"):
                wishes = self._nnc_wishes
                settings.apply(
                    options,
                    plan.budget,
                    lend=plan.shareable != (),
                    levels=wishes.cache_levels,
                    recode=wishes.recode,
                )
                stack.enter_context(sharing(plan.shareable if plan.budget else ()))
            if plan.model is not None:
                from .handover import Recipient, hand_over

                recipient = Recipient(options, self._nnc_own_options, folder)
                ready = hand_over(plan, source, recipient, stack)
            try:
                yield ready
            except Exception as error:
                raise_typed(error)
                raise
        self.plan = plan._replace(model=None)
        count_constants(self, plan.constant_bytes)

    def set_providers(
        self, providers: Providers | None = None, provider_options: Sequence[dict[Any, Any]] | None = None
    ) -> None:
        """Make the session anew with other providers, as onnxruntime does; weights are decoded again as planned."""
        if self.plan is None:
            super().set_providers(providers, provider_options)
            return
        with self._prepared(self._nnc_options, providers) as ready:
            self._model_path = None if isinstance(ready, bytes) else os.fspath(ready)
            self._model_bytes = ready if isinstance(ready, bytes) else None
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
