"""What a page says, as a test reads it."""

from streamlit.testing.v1 import AppTest


def text_of(app: AppTest) -> str:
    """All that a page says."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.error, app.warning, app.success, app.info)
    metrics = [f"{m.label} {m.value} {m.delta}" for m in app.metric]
    tables = [table.value.to_string() for table in [*app.table, *app.dataframe]]
    return "\n".join([element.value for kind in kinds for element in kind] + metrics + tables)
