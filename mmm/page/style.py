"""How the page looks: light or dark as the reader's machine is, wide or narrow."""

STYLE = """
:root { color-scheme: light dark; --page: #fbfaf7; --ink: #22252a; --soft: #666b73; --line: #e5e2da; --card: #fff;
  --quiet: #efece4; --c0: #3366b0; --c1: #b85c1e; --c2: #237f5d; --c3: #86499f; --c4: #8a6d1b; --c5: #b03a62;
  --right: #1c7a46; --right-bg: #dff2e4; --wrong: #a8321f; --wrong-bg: #fbe4dd; }
@media (prefers-color-scheme: dark) { :root { --page: #16181c; --ink: #e4e5e8; --soft: #9aa0a8; --line: #2e3238;
  --card: #1d2025; --quiet: #2a2e34; --c0: #7fa8e6; --c1: #e79a62; --c2: #62c39c; --c3: #c391dc; --c4: #d2b35a; --c5: #e985a6;
  --right: #7fd8a2; --right-bg: #1c3a28; --wrong: #f0a08c; --wrong-bg: #47251d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 56px 32px 96px; background: var(--page); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums; }
h1 { margin: 0; font-size: 40px; line-height: 1.15; letter-spacing: -.02em; overflow-wrap: anywhere; }
h2 { margin: 72px 0 8px; font-size: 22px; letter-spacing: -.01em; }
h3 { margin: 40px 0 8px; font-size: 17px; }
p { max-width: 72ch; color: var(--soft); } p strong { color: var(--ink); }
small { color: var(--soft); font-size: 13px; white-space: nowrap; }
.eyebrow { margin: 0 0 8px; font-size: 13px; letter-spacing: .08em; text-transform: uppercase; }
.verdict { margin: 16px 0 32px; font-size: 20px; line-height: 1.45; color: var(--ink); }
.tiles { display: flex; flex-wrap: wrap; gap: 1px; margin: 0; overflow: hidden;
  border: 1px solid var(--line); border-radius: 12px; background: var(--line); }
.tiles div { flex: 1 0 auto; padding: 14px 18px; background: var(--card); display: flex; flex-direction: column-reverse; }
.tiles dt { font-size: 13px; color: var(--soft); }
.tiles dd { margin: 0; font-size: 20px; font-weight: 600; white-space: nowrap; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); } .c4 { --c: var(--c4); }
.c5 { --c: var(--c5); }
strong[class^=c], h3[class^=c] { color: var(--c); }
.scroll { overflow-x: auto; margin: 16px 0; }
table { border-collapse: collapse; width: 100%; font-size: 15px; }
th, td { padding: 9px 18px 9px 0; text-align: right; vertical-align: middle; border-bottom: 1px solid var(--line);
  font-weight: 400; }
th:first-child, td:first-child { text-align: left; } th:last-child, td:last-child { padding-right: 0; }
thead th { font-size: 13px; color: var(--soft); vertical-align: bottom; }
.skills small { display: block; max-width: 22ch; margin-left: auto; white-space: normal; line-height: 1.35; }
.skills td:nth-child(3), .skills th:nth-child(3) { width: 26%; min-width: 180px; }
.skills td:nth-child(2) small { white-space: nowrap; }
.sources td:nth-child(-n+3), .sources th:nth-child(-n+3) { text-align: left; } .sources small { display: block; }
.skills td:nth-child(6) { max-width: 13ch; } .big { font-size: 20px; font-weight: 600; }
.bar { display: block; width: 100%; height: 28px; } .axis { display: block; width: 100%; height: 14px; overflow: visible; }
.track { stroke: var(--line); } .grid { stroke: var(--line); } .zero { stroke: var(--soft); }
.from0 { stroke: var(--c); stroke-width: 3; stroke-opacity: .35; }
.interval { stroke: var(--c); stroke-width: 9; stroke-opacity: .4; stroke-linecap: butt; } .bar circle { fill: var(--c); }
svg text { font-size: 12px; fill: var(--soft); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 32px 40px;
  margin-top: 24px; }
figure { margin: 0; } figcaption { font-size: 14px; color: var(--soft); } figcaption strong { color: var(--ink); }
.chart { display: block; width: 100%; height: auto; margin-top: 8px; }
.chart polyline { fill: none; stroke: var(--c); stroke-linejoin: round; } .raw { stroke-opacity: .35; stroke-width: .8; }
.smooth { stroke-width: 2.2; } .guess { stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 5 4; }
.ring { fill: var(--page); stroke: var(--c); stroke-width: 2.2; }
.records { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 16px; }
.record { display: flex; flex-wrap: wrap; gap: 14px 18px; align-content: flex-start; padding: 18px; background: var(--card);
  border: 1px solid var(--line); border-radius: 12px; min-width: 0; }
.raster { flex: 1 1 100%; } .small { flex: 1 1 0; min-width: 90px; max-width: 148px; }
.raster figcaption { font-size: 13px; line-height: 1.4; }
.raster img { display: block; width: 100%; height: auto; max-height: 170px; image-rendering: pixelated;
  border-radius: 4px; margin-bottom: 5px; }
.marked { width: 100%; min-width: 0; } .marked figcaption { font-size: 13px; }
.marked p { margin: 2px 0 0; max-width: none; max-height: 11em; overflow: auto; color: var(--ink); font-size: 15px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.w { padding: 1px 3px; margin: 0 1px; border-radius: 4px; white-space: nowrap; }
.hidden { background: var(--quiet); color: var(--soft); border-bottom: 2px dotted var(--soft); }
.right { background: var(--right-bg); color: var(--right); border-bottom: 2px solid var(--right); }
.wrong { background: var(--wrong-bg); color: var(--wrong); text-decoration: underline wavy 1px; text-underline-offset: 3px; }
.legend { font-size: 14px; } .legend .w { margin-right: 10px; }
details { margin-top: 16px; padding: 14px 18px; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
h2 + details, section + details { margin-top: 72px; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; font: 13px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media (max-width: 640px) {
  body { padding: 32px 16px 64px; } h1 { font-size: 30px; } h2 { margin-top: 56px; } .verdict { font-size: 18px; }
  .tiles div { flex-basis: 40%; } table { font-size: 14px; } th, td { padding-right: 12px; }
  .stack thead { display: none; } .stack, .stack tbody, .stack tr, .stack th, .stack td { display: block; width: 100%; }
  .stack tr { padding: 14px 0; border-bottom: 1px solid var(--line); }
  .stack th, .stack td { padding: 2px 0; border: 0; text-align: left; }
  .stack td[data-label]::before { content: attr(data-label) " "; color: var(--soft); font-size: 13px; }
  .stack small { white-space: normal; overflow-wrap: anywhere; }
  .skills td:nth-child(3) { width: 100%; } .skills td:nth-child(6) { max-width: none; }
  .skills small { display: inline; margin-left: 6px; }
}
@media print { body { max-width: none; padding: 0; } .record, figure { break-inside: avoid; } }
"""
