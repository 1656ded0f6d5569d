extension HTML {
  /// The one style sheet. Colours are variables, so that dark is another set of them; paper is light.
  static let style: HTML = """
    :root{color-scheme:light dark;--page:#f7f6f3;--panel:#fff;--ink:#1c2127;--soft:#555f6b;\
    --line:#d8dbe0;--good:#146c43;--bad:#b3261e;--warn:#8a5a00;--goodbg:#e3f3ea;--badbg:#fce8e6;\
    --warnbg:#fbf0d9;--noise:#cfd6df;--allowed:#e9ecf1;--mark:#2457a6;\
    --h1:#fdeccf;--h2:#f7c48c;--h3:#e58f5a;--h4:#b3261e;--hi:#1c2127;--h4i:#fff}
    @media screen and (prefers-color-scheme:dark){:root{--page:#131619;--panel:#1b2025;--ink:#e7eaed;\
    --soft:#a3adb8;--line:#363e47;--good:#5fd09a;--bad:#ff8a80;--warn:#e8bd4f;--goodbg:#15301f;\
    --badbg:#3d1a18;--warnbg:#352a10;--noise:#47525f;--allowed:#262d35;--mark:#8ab4f8;\
    --h1:#3d2f1a;--h2:#6e4a1d;--h3:#9a5023;--h4:#ff8a80;--hi:#f3ece4;--h4i:#1c1011}}
    *{box-sizing:border-box}
    html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
    body{margin:0;background:var(--page);color:var(--ink);\
    font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;\
    overflow-wrap:anywhere}
    main,header,footer{max-width:70rem;margin:0 auto;padding:0 1rem}
    h1{font-size:1.7rem;line-height:1.25;margin:.2rem 0 .5rem}
    h2{font-size:1.2rem;margin:0 0 .5rem}
    h3{font-size:1rem;margin:1.2rem 0 .4rem}
    p{margin:.4rem 0;max-width:60rem}
    code,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;\
    font-size:.86em;unicode-bidi:isolate}
    pre{margin:.4rem 0;padding:.6rem .8rem;background:var(--page);border:1px solid var(--line);\
    border-radius:4px;white-space:pre-wrap}
    a{color:var(--mark)}
    .skip{position:absolute;left:-100vw;top:0;padding:.4rem .8rem;background:var(--panel);z-index:1}
    .skip:focus{left:0}main:focus{outline:0}
    mark{background:var(--badbg);color:var(--bad);font-weight:700;text-decoration:underline}
    section{background:var(--panel);border:1px solid var(--line);border-radius:8px;\
    padding:1rem 1.1rem;margin:1rem 0}
    .kicker{color:var(--soft);margin:1.2rem 0 0;font-size:.9rem}
    .verdict{border-left:6px solid var(--line);padding:.1rem 0 .1rem .9rem;margin-bottom:1rem}
    .verdict.good{border-color:var(--good)}.verdict.bad{border-color:var(--bad)}
    .verdict.warn{border-color:var(--warn)}
    .good h1,.word.good{color:var(--good)}.bad h1,.word.bad{color:var(--bad)}
    .warn h1,.word.warn{color:var(--warn)}
    .word{font-weight:600;white-space:nowrap}
    .soft{color:var(--soft)}
    ul.plain{margin:.3rem 0;padding-left:1.2rem}
    dl.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem 1.2rem;\
    margin:.4rem 0}
    dl.facts div{min-width:0}dt{color:var(--soft);font-size:.85rem}dd{margin:0;font-weight:600}\
    dl.small{gap:.35rem 1rem;font-size:.9rem}dl.small dd{font-weight:500}
    .scroll{position:relative;overflow-x:auto;margin:.5rem 0;border:1px solid var(--line);border-radius:4px}
    .scroll.tall{max-height:26rem;overflow-y:auto}
    .scroll.tall thead th{position:sticky;top:0;background:var(--panel)}
    .scroll:focus-visible,summary:focus-visible,a:focus-visible\
    {outline:3px solid var(--mark);outline-offset:2px}
    table{border-collapse:collapse;width:100%;font-size:.88rem}
    caption{text-align:left;color:var(--soft);padding:.4rem .6rem;font-size:.85rem}
    th,td{text-align:left;padding:.28rem .6rem;border-top:1px solid var(--line);vertical-align:top}
    thead th{color:var(--soft);font-weight:600;white-space:nowrap;border-top:0}
    tbody th{font-weight:500}
    td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
    td,th{overflow-wrap:break-word}\
    td.piece{min-width:11rem}td.say{min-width:11rem}td.guesses{min-width:13rem}\
    td.name,th.name{min-width:13rem;overflow-wrap:anywhere;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;\
    font-size:.82rem;unicode-bidi:isolate}
    tr.out>*{background:var(--badbg)}tr.odd>*{background:var(--warnbg)}
    figure{margin:.6rem 0}
    figcaption{color:var(--soft);font-size:.85rem;margin:.3rem 0}
    .legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;margin:.3rem 0;padding:0;\
    font-size:.85rem;color:var(--soft)}
    .legend li{display:flex;align-items:center;gap:.4rem}
    .legend svg{flex:none}
    svg{display:block;overflow:visible}
    svg text{fill:var(--soft);font-size:11px;font-family:system-ui,sans-serif}
    .plot{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:0 .8rem;\
    padding-right:1.2rem}
    .plot ol{list-style:none;margin:0;padding:38px 0 0;font-size:.78rem;text-align:right;\
    font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
    .plot li{height:20px;line-height:20px;white-space:nowrap}
    .plot.dense li{height:16px;line-height:16px;font-size:.7rem}
    .plot li.first{color:var(--bad);font-weight:700}
    .noise{fill:var(--noise)}.allowed{fill:var(--allowed)}.grid{stroke:var(--line)}
    .bound{stroke:var(--ink);stroke-width:2}.path{stroke:var(--mark);stroke-width:1.2;opacity:.7}
    .dot{fill:var(--mark)}.out{fill:var(--bad)}.first-row{fill:var(--badbg)}
    .maps{display:flex;flex-wrap:wrap;gap:1.2rem;align-items:flex-start}
    .maps .scroll{max-width:100%;margin:0}
    table.map{width:auto;font-size:.8rem}
    table.map th,table.map td{border:1px solid var(--line);padding:.1rem .35rem}
    table.map caption{white-space:nowrap}table.map tbody th{white-space:nowrap}
    table.map thead th{vertical-align:bottom;height:8.6rem;padding:.3rem .1rem}
    table.map thead th.corner{vertical-align:bottom;padding:.3rem}
    table.map thead span.turn{writing-mode:vertical-rl;transform:rotate(180deg);font-weight:500;\
    line-height:1.1}
    table.map td{text-align:center;min-width:1.7rem;font-weight:700}
    .m0{color:var(--soft);font-weight:400!important}.mc{background:var(--allowed)}
    .m1{background:var(--h1);color:var(--hi)}.m2{background:var(--h2);color:var(--hi)}
    .m3{background:var(--h3);color:var(--hi)}.m4{background:var(--h4);color:var(--h4i)}
    .swatch{display:inline-block;min-width:1.5rem;padding:0 .2rem;text-align:center;font-weight:700;\
    border:1px solid var(--line)}
    .vh{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
    ol.stack{list-style:none;display:flex;flex-wrap:wrap;gap:.5rem;margin:.5rem 0;padding:0}
    ol.stack>li{display:flex;flex-direction:column;width:6rem}
    ol.stack .label{font-size:.75rem;color:var(--soft)}
    ol.stack ol{list-style:none;margin:0;padding:0;display:flex;flex-direction:column;gap:2px}
    .block{border-radius:4px;padding:.15rem .45rem;font-size:.78rem;line-height:1.3;color:#15191d;\
    background:#cfd4da;overflow-wrap:anywhere}
    .k-mamba{background:#86c5ea}.k-mamba2{background:#8fd6cb}.k-attention{background:#f3bb77}
    .k-gla{background:#bcd67f}.k-retention{background:#cdb0ea}.k-mega{background:#f2a3b5}
    .k-mlp{background:#cfd4da}.k-model{background:#e9dfa3}
    .block small{display:block;font-size:.7rem}
    .block.marked{outline:3px solid var(--bad);outline-offset:1px}\
    .block .here{font-weight:700;color:#7a0f0a}
    dd small{display:block;font-weight:400}
    .bar{display:block;height:.75rem;min-width:2px;border-radius:2px;border:1px solid #00000030}
    .bars td:last-child{width:45%;min-width:6rem;vertical-align:middle}
    .multiples{display:grid;grid-template-columns:repeat(auto-fill,minmax(13.5rem,1fr));gap:.9rem}
    .multiples figure{margin:0;border:1px solid var(--line);border-radius:4px;padding:.5rem .6rem;\
    min-width:0}
    .multiples figcaption{margin:0 0 .2rem;color:var(--ink);font-size:.8rem;font-weight:600}
    .multiples .ends{display:flex;justify-content:space-between;font-size:.72rem;color:var(--soft);\
    margin:0}
    .multiples .note{font-size:.75rem;margin:.1rem 0 0}
    .multiples .flag{border-color:var(--bad);background:var(--badbg)}
    .multiples .odd{border-color:var(--warn);background:var(--warnbg)}
    .range{stroke:var(--soft);stroke-width:1.5}.spread{fill:var(--mark)}
    .zero{stroke:var(--soft);stroke-dasharray:2 3;opacity:.6}
    .range.badmark{stroke:var(--bad)}.spread.badmark{fill:var(--bad)}
    .range.oddmark{stroke:var(--warn)}.spread.oddmark{fill:var(--warn)}
    text.badtext{fill:var(--bad);font-weight:700}text.oddtext{fill:var(--warn);font-weight:700}
    .guess{display:grid;grid-template-columns:4.2rem 3.4rem minmax(2rem,1fr);gap:.4rem;\
    align-items:center;font-variant-numeric:tabular-nums;font-size:.8rem;line-height:1.35}
    .guess i{display:block;height:.5rem;background:var(--mark);border-radius:1px;min-width:1px}
    .guess.b i{background:var(--warn)}
    footer{color:var(--soft);font-size:.85rem;padding-bottom:2rem}
    @media (max-width:40rem){.guess{grid-template-columns:2rem 2.9rem;gap:.2rem}#content td,#content th{padding-left:.4rem;padding-right:.4rem}.guess i{display:none}\
    td.guesses{min-width:0}td.name,th.name{min-width:9rem}body{font-size:15px}h1{font-size:1.35rem}section{padding:.8rem .7rem;\
    margin:.7rem 0}main,header,footer{padding:0 .6rem}.plot{gap:0 .5rem}.plot ol{font-size:.68rem}\
    ol.stack>li{width:5.2rem}table.map thead th{height:auto}.multiples{grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr))}}
    @media print{body{background:#fff;font-size:10pt}section{border:0;padding:0;margin:1rem 0}\
    *{print-color-adjust:exact;-webkit-print-color-adjust:exact}.scroll,.scroll.tall{overflow:visible;max-height:none;border:0}\
    .plot:not(.long),tr,.legend,.multiples figure,.maps>*,ol.stack>li{break-inside:avoid}h2,h3,caption,thead{break-after:avoid}\
    table{font-size:8pt}td.name,th.name,td.piece{min-width:0;font-size:7pt}th,td{padding:.15rem .3rem}main,header,footer{max-width:none}}
    """
}
