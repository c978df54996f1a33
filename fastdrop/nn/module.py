"""`Module`: parameters, buffers and submodules registered by attribute; and the containers made of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from fastdrop._checks import LIMIT, as_array, check_flags, check_int, shown
from fastdrop.nn.autograd import DETACHED
from fastdrop.nn.dtypes import floating_dtype
from fastdrop.nn.tensor import Tensor, named_tensor

_M = TypeVar("_M", bound="Module")


class Parameter(Tensor):
    """A tensor that a `Module` counts among its parameters when it is assigned as an attribute.

    Examples
    --------
    >>> Parameter(np.ones(2, dtype=np.float32))
    Parameter containing:
    tensor([1., 1.], requires_grad=True)
    """

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        source = named_tensor(data, "data")
        super().__init__(source.array)
        # The same memory, so the same count of in-place changes.
        self.storage = source.storage
        self.graph_version = DETACHED
        self.requires_grad_(requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Module:
    """Base class of layers and models.

    A subclass calls ``super().__init__()``, assigns parameters and submodules as attributes, and defines ``forward``.

    Attributes
    ----------
    training : bool
        Whether layers such as Dropout act as in training; set by `train` and `eval`.
    mc_training : bool
        Of the class: whether `mc_dropout` puts its modules in training mode. True means that training mode drops;
        a class for which it means anything else, such as the statistics of a batch, says False.

    Examples
    --------
    >>> from fastdrop import nn
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.fc = nn.Linear(4, 2)
    ...
    ...     def forward(self, x):
    ...         return self.fc(x)
    >>> Net()
    Net(
      (fc): Linear(in_features=4, out_features=2, bias=True)
    )
    """

    training: bool
    mc_training: bool = True
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]

    def __init__(self) -> None:
        # Past __setattr__, which needs these tables.
        for name in ("_parameters", "_buffers", "_modules"):
            object.__setattr__(self, name, {})
        object.__setattr__(self, "training", True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; a subclass defines it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if "_modules" not in self.__dict__:
            raise AttributeError(f"cannot call {type(self).__name__} before Module.__init__() call")
        return self.forward(*args, **kwargs)

    # --- registration -------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        tables = self.__dict__
        for kind, table, what in ((Parameter, "_parameters", "parameters"), (Module, "_modules", "module")):
            if isinstance(value, kind):
                if table not in tables:
                    raise AttributeError(f"cannot assign {what} before Module.__init__() call")
                self._forget(name, keep=table)  # Kept where it is, so that a replaced layer keeps its place.
                tables[table][name] = value
                return
        if name in tables.get("_parameters", ()):
            if value is not None:
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as parameter '{name}' (nn.Parameter or None expected)"
                )
            tables["_parameters"][name] = None
        elif name in tables.get("_modules", ()):
            if value is not None:
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as child module '{name}' (nn.Module or None expected)"
                )
            tables["_modules"][name] = None
        elif name in tables.get("_buffers", ()):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' object to buffer '{name}' (Tensor or None required)"
                )
            tables["_buffers"][name] = value
        else:
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # Called only when ordinary lookup has failed.
        for table in ("_parameters", "_buffers", "_modules"):
            entries = self.__dict__.get(table)
            if entries is not None and name in entries:
                return entries[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> None:
        if not self._forget(name):
            object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def _forget(self, name: str, keep: str | None = None) -> bool:
        found = False
        for table in {"_parameters", "_buffers", "_modules"} - {keep}:
            found |= self.__dict__.get(table, {}).pop(name, self) is not self
        return (self.__dict__.pop(name, self) is not self) | found

    def _check_name(self, what: str, name: str, table: Mapping[str, Any]) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{what} name can\'t contain "."')
        if not name:
            raise KeyError(f'{what} name can\'t be empty string ""')
        if hasattr(self, name) and name not in table:
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, or None to keep the name free of one."""
        self._check_name("parameter", name, self.__dict__.get("_parameters", {}))
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"cannot assign '{type(param).__name__}' object to parameter '{name}'")
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None) -> None:
        """Add a tensor that is saved with the weights but not trained."""
        self._check_name("buffer", name, self.__dict__.get("_buffers", {}))
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot assign '{type(tensor).__name__}' object to buffer '{name}'")
        self._buffers[name] = tensor

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under a name that need not be an identifier."""
        self._check_name("module", name, self.__dict__.get("_modules", {}))
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"module has to be a Module, but a {type(module).__name__} is not a Module subclass")
        self._modules[name] = module

    register_module = add_module

    # --- walking ------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the direct submodules with their names, each once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """Yield the direct submodules."""
        return (module for _, module in self.named_children())

    def named_modules(self, memo: set[int] | None = None, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield this module and all below it with their dotted names, each once."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        memo.add(id(self))
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """Yield this module and all below it."""
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Yield the parameters with their dotted names, each once."""
        return self._named("_parameters", prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield the parameters."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Yield the buffers with their dotted names, each once."""
        return self._named("_buffers", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Yield the buffers."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named(self, table: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix=prefix) if recurse else [(prefix, self)]:
            for name, value in getattr(module, table).items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    # --- mode and gradients -------------------------------------------------------------------------------------

    def train(self: _M, mode: bool = True) -> _M:
        """Set training mode for this module and all below it."""
        if not isinstance(mode, bool):
            raise ValueError(f"training mode is expected to be boolean, but got {shown(mode)}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: _M) -> _M:
        """Set evaluation mode: the same as ``train(False)``."""
        return self.train(False)

    def requires_grad_(self: _M, requires_grad: bool = True) -> _M:
        """Set `requires_grad` of every parameter."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or with ``set_to_none=False`` overwrite them with zeros."""
        for parameter in self.parameters():
            zero_grad(parameter, set_to_none)

    def apply(self: _M, fn: Callable[[Module], Any]) -> _M:
        """Call `fn` on every module below this one, and then on this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # --- weights ------------------------------------------------------------------------------------------------

    def state_dict(self) -> OrderedDict[str, Tensor]:
        """Return parameters and buffers by dotted name; the tensors share memory with the module."""
        state: OrderedDict[str, Tensor] = OrderedDict()
        for path, module in _all_paths(self):
            for table in (module._parameters, module._buffers):
                for name, value in table.items():
                    if value is not None:
                        state[f"{path}{name}"] = value.detach()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Copy values into parameters and buffers; nothing is changed when an error is raised.

        Parameters
        ----------
        state_dict : mapping of str to Tensor or array
            What `state_dict` returned; ndarrays and PyTorch's CPU tensors are taken too.
        strict : bool
            Whether missing and unexpected names are errors. Wrong shapes always are.

        Raises
        ------
        RuntimeError
            Naming every missing or unexpected key and every wrong shape.
        """
        check_flags(strict=strict)
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        own = self.state_dict()
        values = {name: _values(name, state_dict[name], own[name]) for name in own if name in state_dict}
        complaints = []
        if strict:
            for kind, names in (
                ("Missing", [name for name in own if name not in state_dict]),
                ("Unexpected", [name for name in state_dict if name not in own]),
            ):
                if names:
                    listed = ", ".join(f'"{name}"' for name in names)
                    complaints.append(f"{kind} key(s) in state_dict: {listed}. ")
        for name, array in values.items():
            if array.shape != own[name].shape:
                complaints.append(
                    f"size mismatch for {name}: copying a param with shape {array.shape} from checkpoint, "
                    f"the shape in current model is {own[name].shape}."
                )
        if complaints:
            raise RuntimeError(
                f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(complaints)
            )
        for name, array in values.items():
            own[name].array[...] = array
            own[name].storage.version += 1

    def double(self: _M) -> _M:
        """Make every floating parameter and buffer float64."""
        return self._cast(np.float64)

    def float(self: _M) -> _M:
        """Make every floating parameter and buffer float32."""
        return self._cast(np.float32)

    def _cast(self: _M, dtype: Any) -> _M:
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.array.dtype.kind == "f":
                tensor.array = tensor.array.astype(dtype)
                tensor.storage.version += 1
                tensor.grad = None
        return self

    def to(self: _M, dtype: Any) -> _M:
        """Make every floating parameter and buffer of `dtype`; ``"cpu"`` is taken and does nothing."""
        return self if isinstance(dtype, str) and dtype == "cpu" else self._cast(floating_dtype(dtype))

    # --- repr ---------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses; a subclass may define it."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = self._child_lines()
        if not children:
            return f"{type(self).__name__}({extra})"
        lines = (extra.split("\n") if extra else []) + children
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"

    def _child_lines(self) -> list[str]:
        return [_indented(f"({name}): {module!r}") for name, module in self._modules.items()]


def zero_grad(parameter: Tensor, set_to_none: bool) -> None:
    """Forget the gradient of a tensor, or overwrite it with zeros."""
    if set_to_none:
        parameter.grad = None
    elif parameter.grad is not None:
        parameter.grad.array[...] = 0


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")


def _all_paths(module: Module, prefix: str = "") -> Iterator[tuple[str, Module]]:
    # Unlike named_modules, a module that is used twice is listed twice, as in PyTorch's state_dict.
    yield prefix, module
    for name, child in module._modules.items():
        if child is not None:
            yield from _all_paths(child, f"{prefix}{name}.")


def _values(name: str, value: Any, own: Tensor) -> Any:
    """Return what is to be copied into `own`, in its dtype."""
    if not isinstance(value, Tensor) and hasattr(value, "detach") and hasattr(value, "dtype"):
        value = value.detach()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    array = value.array if isinstance(value, Tensor) else as_array(value, name)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: cannot load values of dtype {array.dtype} into a tensor of dtype {own.dtype}")
    return array.astype(own.dtype, copy=False)


class Sequential(Module):
    """Modules called one after the other, each on the result of the one before.

    Takes modules, or one OrderedDict of named modules.

    Examples
    --------
    >>> from fastdrop import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> model[0]
    Linear(in_features=4, out_features=3, bias=True)
    >>> len(model[:1])
    1
    """

    def __init__(self, *args: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, module)
            return
        for index, child in enumerate(args):
            self.add_module(str(index), child)  # type: ignore[arg-type]  # add_module refuses what is no module

    def forward(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def __len__(self) -> int:
        return len(self._modules)

    def _key(self, index: int) -> str:
        return _key_at(self._modules, index)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            named: Any = list(self._modules.items())[index]
            return type(self)(OrderedDict(named))
        return self._modules[self._key(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._key(index), module)

    def __delitem__(self, index: int) -> None:
        del self._modules[self._key(index)]
        names = [str(i) for i in range(len(self))]
        object.__setattr__(self, "_modules", dict(zip(names, self._modules.values(), strict=True)))

    def append(self, module: Module) -> Sequential:
        """Add a module at the end, and return this one."""
        self.add_module(str(len(self)), module)
        return self


class ModuleList(Module):
    """A list of modules whose parameters are registered; it has no forward of its own."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(() if modules is None else modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._modules[_key_at(self._modules, index)]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, _key_at(self._modules, index), module)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end, and return this list."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Add modules at the end, and return this list."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"modules has to be an iterable of Modules, but got {shown(modules)}")
        for module in modules:
            self.append(module)
        return self

    def _child_lines(self) -> list[str]:
        # As in PyTorch, a run of modules that look alike takes one line.
        runs: list[tuple[int, int, str]] = []
        for index, module in enumerate(self):
            text = repr(module)
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], index, text)
            else:
                runs.append((index, index, text))
        return [
            _indented(f"({first}): {text}" if first == last else f"({first}-{last}): {last - first + 1} x {text}")
            for first, last, text in runs
        ]


def _key_at(modules: Mapping[str, Any], index: int) -> str:
    size = len(modules)
    if not -size <= check_int("index", index, -LIMIT, LIMIT) < size:
        raise IndexError(f"index {index} is out of range for {size} modules")
    return list(modules)[index]
