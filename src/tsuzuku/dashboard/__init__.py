"""The dashboard: a thin Streamlit client of the HTTP API, Japanese first."""
