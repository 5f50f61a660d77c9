"""Style sheet of the HTML report: one column, light or dark like the reader's system, light on paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  --page: #f6f6f3; --card: #ffffff; --ink: #1d2025; --muted: #5f656d; --line: #e0e0da; --shade: #f0f0ec;
  --good: #1a7f4b; --bad: #b9322c; --open: #8a5c00; --accent: #2b66b1;
  --series-1: #2b66b1; --series-2: #c8551b; --series-3: #2a8554; --series-4: #8f4a9e;
  --series-5: #927200; --series-6: #1a8585; --series-7: #bf3a55; --series-8: #6b7280;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --card: #1c1f25; --ink: #e8e9ec; --muted: #a3aab4; --line: #343942; --shade: #262a31;
    --good: #5fd39a; --bad: #ff8078; --open: #e3b341; --accent: #7fb2f5;
    --series-1: #6aa9f4; --series-2: #f0965c; --series-3: #5fc98a; --series-4: #cf8edb;
    --series-5: #d9b944; --series-6: #58c7c7; --series-7: #ff8095; --series-8: #a3abb8;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 2.5rem 1.5rem 4rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 var(--font);
}
main { max-width: 76rem; margin: 0 auto; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: .35rem .9rem; margin-bottom: 1.5rem; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.25; letter-spacing: -.015em; overflow-wrap: anywhere; }
h2 { margin: 2.6rem 0 .8rem; font-size: 1.2rem; line-height: 1.3; letter-spacing: -.01em; overflow-wrap: anywhere; }
h3 { margin: 0; font-size: .95rem; font-weight: 600; line-height: 1.35; overflow-wrap: anywhere; }
.subtitle { flex-basis: 100%; margin: 0; color: var(--muted); overflow-wrap: anywhere; }
.status { padding: .1rem .7rem; border: 1px solid; border-radius: 2rem; font-size: .8rem; font-weight: 600; }
.status.good { color: var(--good); }
.status.bad { color: var(--bad); }
.status.open { color: var(--open); }
.note, .remark { margin: .5rem 0 0; color: var(--muted); font-size: .87rem; max-width: 46rem; overflow-wrap: anywhere; }
.remark { padding-left: .8rem; border-left: 3px solid var(--open); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; overflow: hidden; }
dl { margin: 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 1px; }
.facts > div { padding: .65rem 1rem; box-shadow: 0 0 0 1px var(--line); }
dt { color: var(--muted); font-size: .8rem; }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.facts dd { font-size: 1.05rem; font-weight: 600; }
.facts dd.long { padding-top: .15rem; font-size: .88rem; font-weight: 400; line-height: 1.4; }
.pairs > div { display: grid; grid-template-columns: minmax(9rem, 14rem) 1fr; gap: .2rem 1rem; padding: .4rem 1rem; }
.pairs > div + div { border-top: 1px solid var(--line); }
.pairs dt { padding-top: .12rem; overflow-wrap: anywhere; }
details { margin-top: .8rem; }
summary { cursor: pointer; color: var(--accent); font-size: .92rem; }
details > dl { margin-top: .6rem; }
pre { margin: 0; padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; font: .85rem/1.55 var(--mono); }
.word { display: inline-block; max-width: 100%; }
figure { margin: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.chart { padding: .8rem .85rem .7rem; }
.chart svg { display: block; width: 100%; max-width: 27rem; height: auto; margin-top: .35rem; }
.chart text { font-family: var(--font); }
.legend { display: flex; flex-wrap: wrap; gap: .15rem 1rem; margin: .35rem 0 0; }
.legend { color: var(--muted); font-size: .83rem; }
.legend b { color: var(--ink); font-weight: 600; }
.legend i { display: inline-block; width: .75em; height: .75em; margin-right: .4em; border-radius: 2px; }
.legend .series-1 { background: var(--series-1); } .legend .series-2 { background: var(--series-2); }
.legend .series-3 { background: var(--series-3); } .legend .series-4 { background: var(--series-4); }
.legend .series-5 { background: var(--series-5); } .legend .series-6 { background: var(--series-6); }
.legend .series-7 { background: var(--series-7); } .legend .series-8 { background: var(--series-8); }
.gallery { margin-top: 1.1rem; }
.gallery h3 { margin-bottom: .5rem; }
.rows { display: grid; gap: .9rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--wide)), 1fr)); }
.columns-1 { --wide: 9.5rem; } .columns-2 { --wide: 17rem; } .columns-3 { --wide: 22rem; }
.columns-4 { --wide: 29rem; } .columns-5 { --wide: 36rem; } .columns-6 { --wide: 43rem; }
.cells { display: flex; flex-wrap: wrap; gap: .5rem; padding: .6rem .6rem 0; }
.cell { flex: 1 1 0; min-width: 5.5rem; display: flex; flex-direction: column; gap: .15rem; }
.cell img, .large img { display: block; width: 100%; height: auto; border-radius: .25rem; background: var(--shade); }
img.tiny { image-rendering: pixelated; }
.cell .none { display: grid; place-items: center; flex: 1; min-height: 5rem; border-radius: .25rem; }
.cell .none { background: var(--shade); color: var(--muted); font-size: .8rem; }
.cell button { padding: 0; border: 0; background: none; cursor: zoom-in; border-radius: .25rem; }
:is(button, summary, input, .scroll):focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.head { color: var(--muted); font-size: .76rem; overflow-wrap: anywhere; }
.row figcaption { display: flex; flex-wrap: wrap; gap: .1rem .9rem; padding: .3rem .6rem .55rem; font-size: .83rem; }
.row figcaption span:not(.key) { color: var(--muted); }
.row figcaption b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; }
.row .key { flex-basis: 100%; min-width: 0; }
.key { font-family: var(--mono); font-size: .8rem; overflow-wrap: anywhere; white-space: pre-wrap; }
.scroll { overflow-x: auto; }
.table { width: fit-content; max-width: 100%; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem 1rem; text-align: left; vertical-align: top; }
th { color: var(--muted); font-size: .8rem; font-weight: 500; white-space: nowrap; }
tbody tr { border-top: 1px solid var(--line); }
th.number, .number { text-align: right; white-space: nowrap; }
.score { white-space: nowrap; }
td { overflow-wrap: break-word; max-width: 30rem; }
td:last-child:not(.number) { min-width: 9rem; }
td.key, .message { min-width: 12rem; }
.message { color: var(--muted); }
.reason { color: var(--bad); white-space: nowrap; }
.quarantine { margin-top: 1rem; }
dialog { width: min(100vw - 1.5rem, 62rem); max-height: calc(100vh - 2rem); padding: 1rem 1.1rem 1.1rem; }
dialog { color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: .7rem; }
dialog::backdrop { background: rgb(0 0 0 / .6); }
dialog form { display: flex; align-items: start; gap: 1rem; margin-bottom: .7rem; }
dialog h2 { flex: 1; margin: 0; font: 600 .9rem/1.4 var(--mono); }
dialog form button { border: 0; background: none; color: inherit; font-size: 1.5rem; line-height: 1; cursor: pointer; }
.compare { width: min(100%, 26rem); margin: 0 auto .9rem; }
.compare label { display: flex; align-items: center; gap: .6rem; margin-top: .4rem; font-size: .85rem; }
.compare input { flex: 1; min-width: 0; accent-color: var(--accent); }
.stage { display: grid; border-radius: .3rem; overflow: hidden; background: var(--shade); }
.stage img { grid-area: 1 / 1; display: block; width: 100%; height: 100%; object-fit: fill; }
.stage img + img { clip-path: inset(0 calc(100% - var(--shown)) 0 0); }
.large { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 12rem), 1fr)); gap: .7rem; }
.large figcaption { color: var(--muted); font-size: .83rem; }
@media (max-width: 40rem) {
  body { padding: 1.25rem .75rem 2.5rem; }
  h1 { font-size: 1.4rem; }
  .facts { grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); }
  .facts > div { padding: .55rem .8rem; }
  .pairs > div { grid-template-columns: 1fr; gap: 0; padding: .4rem .8rem; }
  th, td { padding: .4rem .65rem; }
  .quarantine thead { display: none; }
  .quarantine td { display: inline-block; padding-block: .15rem; }
  .quarantine :is(.key, .message) { display: block; padding-block: .4rem; }
}
@page { margin: 14mm 12mm; }
@media print {
  body { padding: 0; background: none; font-size: 10pt; }
  h1 { font-size: 17pt; }
  h2 { margin: 1.4rem 0 .6rem; font-size: 12.5pt; }
  h2, h3, thead { break-after: avoid; }
  .note { break-before: avoid; }
  .card.chart, .row, tr, .facts, .pairs > div, pre { break-inside: avoid; }
  .table:not(:has(tr:nth-child(16))) { break-inside: avoid; }
  .charts { grid-template-columns: 1fr 1fr; }
  .rows { gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, calc(.72 * var(--wide))), 1fr)); }
  .cell { min-width: 3.5rem; }
  .scroll { overflow: visible; }
  table { font-size: 8.5pt; }
  th, td { padding: .25rem .55rem; white-space: normal; }
  td { max-width: none; }
  .score { white-space: normal; }
  :is(.table td, .message, .reason) { overflow-wrap: anywhere; }
  .reason { min-width: 5rem; }
  .legend i, .status { print-color-adjust: exact; }
  /* What is folded up cannot be opened on paper. */
  details::details-content { content-visibility: visible; block-size: auto; }
  summary { color: inherit; list-style: none; }
  summary::-webkit-details-marker { display: none; }
  dialog { display: none; }
}
""".strip()
