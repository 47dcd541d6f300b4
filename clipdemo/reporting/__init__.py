"""The report of a comparison: one HTML file that needs nothing else, and the tables and charts behind it as files.

`findings` reads what there is, `sections` makes tables of it and `figures` charts; `page` is the HTML file, `tables`
are the CSV files, `images` draws charts as SVG and PNG, and `files` puts all into a folder or a ZIP.
"""

from clipdemo.reporting.files import Written, report_files, report_zip, write_report
from clipdemo.reporting.page import report_html

__all__ = ["Written", "report_files", "report_html", "report_zip", "write_report"]
