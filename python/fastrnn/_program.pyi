from typing import Any

class CellProgram:
    def __init__(self, lowered: Any) -> None: ...
