"""The only package that imports Streamlit: what the pages are put together from."""
