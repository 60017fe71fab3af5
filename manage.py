#!/usr/bin/env python
"""Django's entry in a clone."""

from __future__ import annotations

import sys

from octaskly_site.__main__ import main

if __name__ == "__main__":
    main(sys.argv)
