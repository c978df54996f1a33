from typing import Any

from numpy.typing import NDArray

STORES: str
COMPILER: str

def memcpy(y: NDArray[Any], x: NDArray[Any], threads: int = 1) -> None: ...
def stream(y: NDArray[Any], x: NDArray[Any], threads: int = 1) -> None: ...
def stream4(y: NDArray[Any], x: NDArray[Any], threads: int = 1) -> None: ...
