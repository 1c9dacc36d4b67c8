"""How the page looks: system fonts, two palettes, and a sheet for paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fdfdfc; --raised: #ffffff; --ink: #1d2125; --quiet: #5f6872; --line: #e3e5e8;
  --good: #1a7f4b; --bad: #b3333c; --warn: #8f6100; --accent: #2d6cb0;
  --good-soft: #e5f4ec; --bad-soft: #fbe9ea; --warn-soft: #faf1dc; --soft: #f4f5f6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181b; --raised: #1b1f23; --ink: #e4e7ea; --quiet: #9aa4ae; --line: #2d3338;
    --good: #5cc48d; --bad: #f0838a; --warn: #dcae4c; --accent: #7fb2e6;
    --good-soft: #17301f; --bad-soft: #3a1e21; --warn-soft: #332a14; --soft: #202529;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2.75rem 1.5rem 4rem; max-width: 60rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1, h2, h3, p, dl, dd, figure, pre, table { margin: 0; }
code, pre, .mono {
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 0.84rem; font-variant-ligatures: none;
}
header .kind { color: var(--quiet); font-size: 0.875rem; }
h1 { font-size: 1.75rem; line-height: 1.25; font-weight: 650; letter-spacing: -0.015em;
  overflow-wrap: anywhere; }
h2 { font-size: 1.125rem; line-height: 1.35; font-weight: 650; margin: 0 0 0.15rem; }
h3 { font-size: 0.875rem; font-weight: 600; }
section { margin-top: 2.75rem; }
.lead { color: var(--quiet); font-size: 0.9rem; margin-bottom: 0.9rem; max-width: 46rem; }
.name { display: flex; flex-wrap: wrap; align-items: center; gap: 0.35rem 0.8rem; }
.badge { font-size: 0.8rem; font-weight: 600; padding: 0.1rem 0.6rem; border-radius: 1rem;
  white-space: nowrap; color: var(--quiet); background: var(--soft); }
.badge.good { color: var(--good); background: var(--good-soft); }
.badge.bad { color: var(--bad); background: var(--bad-soft); }
.badge.warn { color: var(--warn); background: var(--warn-soft); }
.verdict { margin-top: 1.1rem; padding-left: 1rem; border-left: 3px solid var(--line); }
.verdict.good { border-color: var(--good); }
.verdict.bad { border-color: var(--bad); }
.verdict.warn { border-color: var(--warn); }
.verdict p { font-size: 1.06rem; white-space: pre-line; overflow-wrap: anywhere; }
.verdict p + p { margin-top: 0.3rem; }
.verdict p.bad { color: var(--bad); }
.verdict p.warn { color: var(--warn); }
.verdict pre { margin-top: 0.7rem; }
.cards { display: grid; gap: 0.75rem; margin-top: 1.75rem;
  grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); }
.cards > div { border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.7rem 0.9rem 0.75rem;
  background: var(--raised); }
.cards dt { color: var(--quiet); font-size: 0.8rem; overflow-wrap: anywhere; }
.cards .big { font-size: 1.5rem; line-height: 1.35; font-weight: 600; letter-spacing: -0.01em;
  font-variant-numeric: tabular-nums; }
.cards .big.good { color: var(--good); }
.cards .big.bad { color: var(--bad); }
.cards .note { color: var(--quiet); font-size: 0.8rem; font-variant-numeric: tabular-nums; }
.warnings ul { margin: 0.2rem 0 0; padding: 0.75rem 1rem 0.75rem 2.1rem; border-radius: 0.5rem;
  background: var(--warn-soft); font-size: 0.9rem; overflow-wrap: anywhere; }
.plots { display: grid; gap: 1.5rem 2rem; margin-top: 0.9rem;
  grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
.plots figcaption { font-size: 0.875rem; font-weight: 600; margin-bottom: 0.2rem; }
.plots svg { display: block; width: 100%; height: auto; color: var(--quiet); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th { text-align: left; font-weight: 500; color: var(--quiet); font-size: 0.8rem; }
th, td { padding: 0.4rem 1rem 0.4rem 0; border-bottom: 1px solid var(--line);
  vertical-align: baseline; overflow-wrap: anywhere; }
th:last-child, td:last-child { padding-right: 0; }
thead th { border-bottom-color: var(--quiet); }
td { font-variant-numeric: tabular-nums; white-space: pre-line; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.check { white-space: nowrap; width: 1%; }
.facts th, .facts td { padding-top: 0.28rem; padding-bottom: 0.28rem; }
.facts th { width: 15rem; font-size: 0.9rem; font-weight: 400; vertical-align: baseline; }
td.mono { font-size: 0.8rem; overflow-wrap: anywhere; }
details { margin-top: 0.6rem; }
summary { cursor: pointer; color: var(--accent); font-size: 0.9rem; }
.row { border: 1px solid var(--line); border-radius: 0.5rem; background: var(--raised);
  margin-top: 0.8rem; overflow: hidden; break-inside: avoid; }
.row .prompt { padding: 0.75rem 0.9rem; border-bottom: 1px solid var(--line);
  background: var(--soft); }
.row .answers { display: grid; grid-template-columns: repeat(3, 1fr); }
.row .answers > div { padding: 0.7rem 0.9rem 0.85rem; min-width: 0; }
.row .answers > div + div { border-left: 1px solid var(--line); }
.row h3 { display: flex; align-items: center; gap: 0.5rem; min-height: 1.5rem;
  color: var(--quiet); font-weight: 500; font-size: 0.8rem; margin-bottom: 0.25rem; }
.row pre { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 15rem; overflow-y: auto;
  line-height: 1.5; }
.row pre.same { color: var(--good); }
.row pre:empty::after { content: "(nothing)"; color: var(--quiet); font-style: italic; }
.use { margin-top: 0.9rem; }
.use h3 { margin-bottom: 0.3rem; font-weight: 500; }
.code { padding: 0.6rem 0.85rem; border-radius: 0.4rem; background: var(--soft);
  border: 1px solid var(--line); overflow-x: auto; line-height: 1.55; }
footer { margin-top: 3.5rem; padding-top: 0.9rem; border-top: 1px solid var(--line);
  color: var(--quiet); font-size: 0.8rem; }
@media screen and (max-width: 44rem) {
  body { padding: 1.5rem 1rem 3rem; }
  .cards { grid-template-columns: 1fr 1fr; }
  .row .answers { grid-template-columns: 1fr; }
  .row .answers > div + div { border-left: 0; border-top: 1px solid var(--line); }
  .facts th { width: 9rem; }
}
@media print {
  :root { color-scheme: light; --paper: #fff; --raised: #fff; --ink: #000; --quiet: #444;
    --line: #ccc; --good: #14663b; --bad: #98272f; --warn: #6d4a00; --accent: #000;
    --good-soft: #fff; --bad-soft: #fff; --warn-soft: #fff; --soft: #fff; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  section { margin-top: 1.6rem; }
  .cards { grid-template-columns: repeat(3, 1fr); }
  .plots { grid-template-columns: 1fr 1fr; }
  h2, .lead, thead { break-after: avoid; }
  figure, tr, .lead, .cards > div, .use { break-inside: avoid; }
  .row pre { max-height: none; overflow: visible; }
  .code { white-space: pre-wrap; }
  details::details-content { content-visibility: visible; block-size: auto; }
  summary { display: none; }
}
"""
"""The style sheet of `report.html`; light or dark is the reader's own choice."""
