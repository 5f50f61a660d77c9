"""Style sheet of the HTML report: one column, light or dark like the reader's system."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f6f3; --card: #ffffff; --ink: #1d2025; --muted: #6a7078; --line: #e3e3de;
  --good: #1a7f4b; --bad: #c23a34; --open: #9a6700;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --card: #1c1f25; --ink: #e8e9ec; --muted: #9aa1ab; --line: #30343c;
    --good: #5fd39a; --bad: #ff8078; --open: #e3b341;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 2.5rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 68rem; margin: 0 auto; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: .35rem .9rem; margin-bottom: 1.6rem; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.25; letter-spacing: -.015em; overflow-wrap: anywhere; }
h2 { margin: 2.2rem 0 .7rem; font-size: 1.05rem; letter-spacing: -.005em; overflow-wrap: anywhere; }
.subtitle { flex-basis: 100%; margin: 0; color: var(--muted); overflow-wrap: anywhere; }
.status { padding: .1rem .7rem; border: 1px solid; border-radius: 2rem; font-size: .8rem; font-weight: 600; }
.status.good { color: var(--good); }
.status.bad { color: var(--bad); }
.status.open { color: var(--open); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; overflow: hidden; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1px; margin: 0; }
dl > div { padding: .7rem 1rem; box-shadow: 0 0 0 1px var(--line); }
dt { color: var(--muted); font-size: .8rem; }
dd { margin: 0; font-size: 1.05rem; font-weight: 550; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
figure { margin: 0; }
figure img { display: block; width: 100%; min-width: 42rem; height: auto; background: #fafaf8; }
.curves { padding: .8rem 1rem .6rem; max-width: 46rem; }
.curves svg { display: block; width: 100%; height: auto; }
.curves text { fill: var(--muted); font-size: 11px; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .4rem 0 0; }
.legend { color: var(--muted); font-size: .85rem; }
.legend i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px; }
.scroll { overflow-x: auto; }
.table { width: fit-content; min-width: min(100%, 34rem); max-width: 100%; }
table { width: 100%; border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem 1rem; text-align: left; vertical-align: top; }
th { color: var(--muted); font-size: .8rem; font-weight: 500; white-space: nowrap; }
tbody tr { border-top: 1px solid var(--line); }
.number { text-align: right; white-space: nowrap; }
.key { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .85rem; }
.key, .message { overflow-wrap: anywhere; min-width: 12rem; }
.message { color: var(--muted); }
.reason { color: var(--bad); white-space: nowrap; }
@media (max-width: 40rem) {
  body { padding: 1.25rem .75rem 2.5rem; }
  h1 { font-size: 1.4rem; }
  th, td { padding: .45rem .65rem; }
  dl { grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
  .quarantine thead { display: none; }
  .quarantine td { display: inline-block; padding-block: .15rem; }
  .quarantine :is(.key, .message) { display: block; padding-block: .45rem; }
}
@media print {
  body { padding: 0; background: none; }
  .card, tr { break-inside: avoid; }
}
""".strip()
