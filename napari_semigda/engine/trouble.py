"""What an error of torch or of the system means. No torch here: errors are known by the names of their classes."""

from __future__ import annotations

_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc")
_NO_MEMORY_FOR_A_KERNEL = ("could not create a primitive", "could not create a memory", "could not execute a primitive")
"""What oneDNN says on a CPU; it has no other words for it."""
_LOST = ("cuda error", "cudnn_status", "cublas_status", "hip error", "device lost", "device-side assert")


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an action failed for want of memory, of the computer or of its graphics card."""
    if isinstance(error, MemoryError) or _is_a("OutOfMemoryError", error):
        return True
    return isinstance(error, RuntimeError | OSError) and _says(error, *_NO_MEMORY, *_NO_MEMORY_FOR_A_KERNEL)


def lost_device(error: BaseException) -> bool:
    """Whether a graphics card stopped working; nothing can be computed on it any more in this process."""
    if ran_out_of_memory(error):
        return False
    told = isinstance(error, RuntimeError) and _says(error, *_LOST)
    return told or _is_a("AcceleratorError", error)


def _says(error: BaseException, *words: str) -> bool:
    text = str(error).lower()
    return any(each in text for each in words)


def _is_a(name: str, error: BaseException) -> bool:
    return any(kind.__name__ == name for kind in type(error).__mro__)
