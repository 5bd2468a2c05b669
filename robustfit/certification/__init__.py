"""Lower bounds of robust accuracy: what no attack within the budget can change.

:func:`robustfit.certified_accuracy` is the way in. The files here know arrays only.
"""

__all__: list[str] = []
