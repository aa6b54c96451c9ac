"""Drawing again what a button has changed."""

from __future__ import annotations

from typing import NoReturn

import streamlit as st
from streamlit.errors import StreamlitAPIException


def fragment() -> NoReturn:
    """The fragment that the button is in, or all of the page if all of it is being drawn."""
    try:
        st.rerun(scope="fragment")
    except StreamlitAPIException:
        st.rerun()
