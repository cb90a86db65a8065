"""What a unit's syntax depends on outside the unit: earlier units, limits, and facts known out of band."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..errors import CorruptError

if TYPE_CHECKING:
    from ..limits import Limits


class Exporting(Protocol):
    """A syntax structure as the context sees it: what later units take from it."""

    exports: ClassVar[tuple[str, ...]]
    counter: ClassVar[str | None]


class ElementIds(Protocol):
    """``topology_elements_ids_list()`` as the context sees it: names, or else indices of names."""

    @property
    def topology_elem_id_list(self) -> tuple[str, ...]:
        """Names of tensors."""

    @property
    def topology_elem_id_index_list(self) -> tuple[int, ...]:
        """Indices into the reference list."""


@dataclass(frozen=True)
class OutOfBand:
    """What a data unit need not repeat, known from the base model or the application.

    Attributes:
        known: whether somebody supplied these values.
        tensor_dimensions: shape of the (full) weight.
        compressed_parameter_types: the block's mask.
        decomposition_rank: columns of G, if the weight is decomposed.
        g_number_of_rows: rows of G, if the weight is decomposed.
        cabac_unary_length_minus1: greater-than flags minus 1.
    """

    known: bool = False
    tensor_dimensions: tuple[int, ...] = ()
    compressed_parameter_types: int = 0
    decomposition_rank: int = 0
    g_number_of_rows: int = 0
    cabac_unary_length_minus1: int = 9


_UNKNOWN = OutOfBand()


@dataclass(frozen=True)
class Context:
    """State of a bitstream between two units, and the bounds its syntax is held to.

    The numbers carry the standard's names and hold what the start unit and the parameter sets said, 0 or
    ``None`` before that. ``strict`` refuses elements whose text in the standard is not confirmed here.
    """

    strict: bool = True
    max_dims: int = 16
    max_elements: int = 1 << 32
    max_name_bytes: int = 1 << 16
    max_unit_bytes: int = (1 << 31) - 1
    max_tensors: int = 1 << 20
    max_codebook_size: int = 1 << 20
    max_entry_points: int = 1 << 18
    max_units: int = 1 << 21

    start_units: int = 0
    model_parameter_sets: int = 0
    general_profile_idc: int = 1
    mps_topology_indexed_reference_flag: int = 0
    mps_parent_signalling_enabled_flag: int = 0
    mps_unification_flag: int = 0
    mps_quantization_method_flags: int = 0
    mps_qp_density: int | None = None
    mps_quantization_parameter: int | None = None
    lps_unification_flag: int = 0
    lps_quantization_method_flags: int = 0
    lps_qp_density: int | None = None
    lps_quantization_parameter: int | None = None
    reference_count: int = 0
    reference_list: tuple[str, ...] = ()
    base: Mapping[str, OutOfBand] = field(default_factory=dict)

    @classmethod
    def from_limits(cls, limits: Limits, *, strict: bool = True, **values: Any) -> Context:
        """The context at the start of a bitstream, under the caller's limits."""
        return cls(
            strict=strict,
            max_dims=limits.max_dims,
            max_elements=limits.max_elements,
            max_name_bytes=limits.max_name_bytes,
            max_unit_bytes=limits.max_unit_bytes,
            max_units=limits.max_units,
            max_tensors=limits.max_tensors,
            **values,
        )

    @property
    def qp_density(self) -> int | None:
        """Density in force: the layer parameter set's, else the model parameter set's."""
        return self.mps_qp_density if self.lps_qp_density is None else self.lps_qp_density

    @property
    def quantization_parameter(self) -> int | None:
        """Base QP in force: the layer parameter set's, else the model parameter set's."""
        if self.lps_quantization_parameter is None:
            return self.mps_quantization_parameter
        return self.lps_quantization_parameter

    def out_of_band(self, topology_elem_id: str | None, index: int | None, ids: ElementIds | None) -> OutOfBand:
        """What ``base`` knows about a data unit, by the name of its (first) tensor."""
        if not self.base:
            return _UNKNOWN
        names = self.names(topology_elem_id, index, ids)
        return self.base.get(names[0], _UNKNOWN)

    def names(self, topology_elem_id: str | None, index: int | None, ids: ElementIds | None) -> tuple[str, ...]:
        """Tensor names of a data unit, indices into the reference list resolved."""
        if ids is not None:
            by_name: tuple[str, ...] = ids.topology_elem_id_list
            return by_name or tuple(self._referenced(j) for j in ids.topology_elem_id_index_list)
        return (self._referenced(index),) if topology_elem_id is None else (topology_elem_id,)

    def _referenced(self, index: int | None) -> str:
        if index is None or not 0 <= index < len(self.reference_list):
            raise CorruptError(f"tensor index {index} is outside the reference list")
        return self.reference_list[index]

    def exported(self, structures: Iterable[Exporting | None]) -> Context:
        """This context with what the structures say for later units, and their counters moved on."""
        changes: dict[str, Any] = {}
        for part in structures:
            if part is not None:
                changes.update((name, getattr(part, name)) for name in part.exports)
                if part.counter is not None:
                    changes[part.counter] = getattr(self, part.counter) + 1
        return replace(self, **changes) if changes else self


CONTEXT_NAMES = frozenset(f.name for f in fields(Context)) | {"out_of_band"}
