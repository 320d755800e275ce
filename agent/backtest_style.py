"""The style sheet of a backtest's report."""

STYLE = """
:root{--ink:#1d2733;--soft:#66727f;--line:#dfe4ea;--a:#0b6a9c;--b:#c4551a;--paper:#fff}
*{box-sizing:border-box}
body{margin:0;background:#f3f5f7;color:var(--ink);
 font:15px/1.5 "Inter","Segoe UI",system-ui,-apple-system,"Helvetica Neue",Arial,sans-serif;
 font-variant-numeric:tabular-nums}
main{max-width:1080px;margin:0 auto;padding:40px 28px 64px}
h1{font-size:29px;line-height:1.2;margin:0 0 6px;letter-spacing:-.015em}
h2{font-size:20px;margin:0 0 14px;letter-spacing:-.01em}
h3{font-size:15px;margin:22px 0 8px}h4{font-size:15px;margin:0 0 6px}
h3.a,th.a{color:var(--a)}h3.b,th.b{color:var(--b)}
.lead{font-size:17px;margin:0 0 8px;color:var(--soft)}
.soft,figcaption{color:var(--soft);font-size:13px}
.banner{background:#fff4d6;border-left:4px solid #d99a00;padding:8px 14px;font-weight:600}
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;
 padding:24px 26px;margin-top:22px;overflow-x:auto}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:14px;background:transparent;border:0;padding:0}
.tile{background:var(--paper);border:1px solid var(--line);border-top:4px solid var(--a);
 border-radius:8px;padding:14px 16px;display:flex;flex-direction:column}
.tile.b{border-top-color:var(--b)}
.tile .name{color:var(--soft)}.tile .value{font-size:30px;font-weight:650;line-height:1.25}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:6px 14px 6px 0;border-bottom:1px solid var(--line);
 vertical-align:top;font-weight:400}
thead th{font-weight:650;border-bottom:2px solid var(--ink)}
tr.group th{font-weight:650;padding-top:18px}th.inner{padding-left:18px;color:var(--soft)}
.charts{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:26px 30px}
figure{margin:0;break-inside:avoid}figure h3{margin:0 0 4px}
svg{width:100%;height:auto;display:block}
svg text{font-size:11.5px;fill:var(--soft)}svg .axis{font-size:12.5px;fill:var(--ink)}
.grid{stroke:#eceff2;stroke-width:1}.frame{fill:none;stroke:#aab4be;stroke-width:1}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.line.a,.interval.a{stroke:var(--a)}.line.b,.interval.b{stroke:var(--b)}
.line.dashed{stroke-dasharray:5 4;stroke-width:1.6}.line.mark{stroke-width:1;stroke-dasharray:2 3}
.line.always{stroke:#8894a0;stroke-dasharray:6 4;stroke-width:1.4}
.line.never{stroke:#8894a0;stroke-width:1.4}
.interval{stroke-width:1.2;opacity:.45}
.dot.a{fill:var(--a)}.dot.b{fill:var(--b)}.dot.operating{stroke:#fff;stroke-width:2}
.key{margin-right:22px}.key::before{content:"";display:inline-block;width:22px;height:4px;
 border-radius:2px;margin:0 8px 3px 0;background:var(--a)}.key.b::before{background:var(--b)}
article{display:flex;gap:18px;border-top:1px solid var(--line);padding:14px 0}
article img{width:190px;height:auto;align-self:flex-start;border-radius:4px;background:#000}
article>div{flex:1;min-width:0}
article h4 span{margin-left:8px;padding:1px 8px;border-radius:9px;font-size:12px;font-weight:600;
 background:#fde4d9;color:#9a3a0a}article.false h4 span{background:#e3eefb;color:#1b4f86}
dl{display:grid;grid-template-columns:150px 1fr;gap:1px 12px;margin:0 0 6px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
details{font-size:13px}summary{cursor:pointer;color:var(--soft)}ol{margin:6px 0;padding-left:22px}
@media(max-width:760px){.tiles{grid-template-columns:1fr 1fr}.charts{grid-template-columns:1fr}}
@media print{body{background:#fff;font-size:12px}section{border:0;padding:0}}
"""
