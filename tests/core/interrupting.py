"""Interrupts at a given bytecode, as by an exception of a signal handler."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from .proving import LONG


class Interrupt(BaseException):
    """What the signal handler raises."""


class _Interrupter:
    """Raises at the given bytecode, counted over all frames of the modules that are `hit`."""

    def __init__(self, place: int, hit: tuple[str, ...], finalisers: bool) -> None:
        self.left = place
        self.hit = hit
        self.finalisers = finalisers

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        if not code.co_filename.endswith(self.hit):
            return None
        if code.co_name == "__del__" and not self.finalisers:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left < 0:
                sys.settrace(None)
                raise Interrupt
        return self


def interrupted(step: Callable[[], object], place: int, *hit: str, finalisers: bool = True) -> bool:
    """Whether an interrupt came at that place, and not the end of the step before it.

    Args:
        step: what is interrupted.
        place: at which bytecode of the modules, from 0 on.
        hit: the ends of the modules' file names.
        finalisers: whether `__del__` is hit, too; Python itself swallows what is raised there.
    """
    before = sys.gettrace()  # coverage's
    sys._getframe().f_trace_opcodes = True  # CPython 3.12 heeds it from the next settrace() on
    sys.settrace(_Interrupter(place, hit, finalisers))
    try:
        step()
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def report(step: str, places: int) -> None:
    """Print in the long form at how many bytecodes a step was interrupted."""
    if LONG:
        print(f"\n{step}: interrupted at {places:,} bytecodes")
