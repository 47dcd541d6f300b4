"""Share: what one takes home, and how this server is used by many."""

from clipdemo.ui import share, state, widgets

LEAD = "Show it to a class, send a link that opens just what you see, or take a model home."

with widgets.page("Share", LEAD):
    workspace = state.workspace()
    share.take_home(workspace)
    share.other_ways()
    share.this_server(workspace)
