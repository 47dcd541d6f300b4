// Draws the report's charts from the JSON in the page, saves them, and fits them to paper while the page is printed.
"use strict";
const PAPER = { width: 670, height: 860 }; // pixels of an A4 page inside its margins, below two headings
const figures = JSON.parse(document.getElementById("figures").textContent);
const plots = Object.entries(figures).map(([name, figure]) => {
  const plot = document.getElementById(`plot-${name}`);
  plot.style.height = `${figure.layout.height}px`;
  Plotly.newPlot(plot, figure.data, figure.layout, { responsive: true, displayModeBar: false });
  return { plot, height: figure.layout.height };
});

for (const button of document.querySelectorAll("button[data-chart]")) {
  const { chart, format } = button.dataset;
  button.addEventListener("click", () => {
    const plot = document.getElementById(`plot-${chart}`);
    Plotly.downloadImage(plot, { format, filename: chart, width: plot.offsetWidth, height: plot.offsetHeight, scale: 2 });
  });
}

let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
  for (const { plot, height } of plots) {
    plot.style.height = `${Math.min(height, PAPER.height)}px`;
    Plotly.relayout(plot, { width: PAPER.width, height: Math.min(height, PAPER.height) });
  }
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
  for (const { plot, height } of plots) {
    plot.style.height = `${height}px`;
    Plotly.relayout(plot, { width: null, height, autosize: true });
  }
});
document.documentElement.dataset.drawn = "yes";
