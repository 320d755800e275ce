"""A backtest as one HTML page that needs nothing else: to be read, printed and sent."""

import base64
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from agent import backtest_figures as figures
from agent.backtest import Backtest
from agent.backtest_judge import PREVALENCES, Judged, Kind, Reweighted, Wrong
from agent.backtest_numbers import Proportion
from agent.backtest_style import STYLE
from protocols.archive import IMAGES

LARGEST_IMAGE = 2_000_000
"""Bytes of a key image, above which it is left out."""


def report(result: Backtest, archive: Path) -> str:
    """Return the page; key images are taken from the archive."""
    about = result.archive
    names = " and ".join(judged.name for judged in result.protocols)
    title = f"Backtest of {names}"
    simulated = '<p class="banner">All data of this archive are simulated.</p>'
    body = [
        f"<header><h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(about.title)}. {result.protocols[0].exams} exams.</p>',
        simulated if about.simulated else "",
        "<p>Not clinically validated. Proposals are requests for coverage, never diagnoses.</p>",
        "</header>",
        _tiles(result.protocols),
        _numbers(result),
        _differences(result),
        _figures(result),
        _wrong(result, archive),
        _method(result),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"


def _rate(of: Proportion) -> str:
    if of.value is None or of.low is None or of.high is None:
        return '<span class="soft">no such exams</span>'
    return (
        f"<b>{_percent(of.value)}</b> "
        f'<span class="soft">{100 * of.low:.1f}-{100 * of.high:.1f}, {of.count} of {of.of}</span>'
    )


def _number(value: float | None, unit: str = "", digits: int = 1) -> str:
    return '<span class="soft">none</span>' if value is None else f"{value:.{digits}f}{unit}"


def _tiles(protocols: Sequence[Judged]) -> str:
    tiles = []
    for style, judged in zip("ab", protocols):
        for name, value, note in (
            ("sensitivity", _percent(judged.sensitivity.value), _interval(judged.sensitivity)),
            ("specificity", _percent(judged.specificity.value), _interval(judged.specificity)),
            ("scans in 100 exams", f"{judged.asks_per_100:.1f}", "in this archive"),
            ("minutes added", f"{judged.minutes_per_exam:.2f}", "per exam"),
        ):
            tiles.append(
                f'<div class="tile {style}"><span class="name">{name}</span>'
                f'<span class="value">{value}</span><span class="soft">{note}'
                + (f", {escape(judged.name)}" if len(protocols) > 1 else "")
                + "</span></div>"
            )
    return f'<section class="tiles">{"".join(tiles)}</section>'


def _interval(of: Proportion) -> str:
    if of.low is None or of.high is None:
        return "no such exams"
    return f"95 %: {100 * of.low:.1f}-{100 * of.high:.1f}"


Cell = Callable[[Judged], str]


def _numbers(result: Backtest) -> str:
    def size(i: int) -> Cell:
        return lambda j: _rate(j.by_size[i].sensitivity)

    def weighted(prevalence: float, cell: Callable[[Reweighted], str]) -> Cell:
        return lambda j: cell(next(r for r in j.reweighted if r.prevalence == prevalence))

    groups: list[tuple[str, list[tuple[str, Cell]]]] = [
        (
            "Decisions",
            [
                ("sensitivity, lesion in the imaged volume", lambda j: _rate(j.sensitivity)),
                ("  where it did not abstain", lambda j: _rate(j.sensitivity_judgeable)),
                ("  lesion anywhere, seen or not", lambda j: _rate(j.sensitivity_anywhere)),
                ("specificity", lambda j: _rate(j.specificity)),
                ("abstained", lambda j: _rate(j.abstained)),
            ],
        ),
        (
            "Sensitivity by the size of the largest imaged lesion",
            [(group.size, size(i)) for i, group in enumerate(result.protocols[0].by_size)],
        ),
        (
            "Cost, at this archive's prevalence",
            [
                ("scans in 100 exams", lambda j: _number(j.asks_per_100)),
                ("questions of other triggers in 100", lambda j: _number(j.other_asks_per_100)),
                ("condition held, in 100 exams", lambda j: _number(j.held_per_100)),
                ("minutes added to an exam", lambda j: _number(j.minutes_per_exam, " min", 2)),
                (
                    "minutes for each true positive",
                    lambda j: _number(j.minutes_per_true_positive, " min"),
                ),
            ],
        ),
        *(
            (
                f"Re-weighted to a prevalence of {100 * prevalence:g} %",
                [
                    (
                        "scans in 100 exams",
                        weighted(prevalence, lambda r: _number(r.asks_per_100)),
                    ),
                    (
                        "positive predictive value",
                        weighted(prevalence, lambda r: _percent(r.positive_predictive_value)),
                    ),
                    (
                        "minutes added to an exam, by judged triggers",
                        weighted(prevalence, lambda r: _number(r.minutes_per_exam, " min", 2)),
                    ),
                    (
                        "minutes for each true positive",
                        weighted(
                            prevalence, lambda r: _number(r.minutes_per_true_positive, " min")
                        ),
                    ),
                ],
            )
            for prevalence in PREVALENCES
        ),
        (
            "Probabilities",
            [
                ("area under the ROC curve", lambda j: _number(j.auc, "", 3)),
                ("expected calibration error", lambda j: _number(j.calibration_error, "", 3)),
            ],
        ),
    ]
    head = "".join(
        f'<th class="{style}">{escape(judged.name)}</th>'
        for style, judged in zip("ab", result.protocols)
    )
    rows = []
    for title, lines in groups:
        rows.append(f'<tr class="group"><th colspan="3">{title}</th></tr>')
        for name, cell in lines:
            indent = ' class="inner"' if name.startswith("  ") else ""
            cells = "".join(f"<td>{cell(judged)}</td>" for judged in result.protocols)
            rows.append(f"<tr><th{indent}>{name.strip()}</th>{cells}</tr>")
    return (
        f"<section><h2>Numbers</h2><table><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
        '<p class="soft">With 95 % intervals (Wilson). Re-weighted: the rates of this archive '
        "with so many positive exams.</p></section>"
    )


def _differences(result: Backtest) -> str:
    if len(result.protocols) < 2:
        return ""
    if not result.differ:
        return "<section><h2>Where they differ</h2><p>They decide alike in all exams.</p></section>"
    rows = "".join(
        f"<tr><th>only {escape(each.scans)} scans</th><td>{each.kind}</td>"
        f"<td><b>{len(each.exams)}</b></td>"
        f"<td><details><summary>exams</summary>{escape(', '.join(each.exams))}</details></td></tr>"
        for each in result.differ
    )
    return f"<section><h2>Where they differ</h2><table><tbody>{rows}</tbody></table></section>"


def _figures(result: Backtest) -> str:
    protocols = result.protocols
    legend = "".join(
        f'<span class="key {style}">{escape(judged.name)}</span>'
        for style, judged in zip("ab", protocols)
    )
    if len(protocols) > 1:
        legend += '<span class="soft">Where both are the same, the second covers the first.</span>'
    drawn: list[tuple[str, str, str]] = [
        (
            f"Decision curve at a prevalence of {100 * prevalence:g} %",
            figures.decision(protocols, prevalence),
            "Grey dashed: always scan. Grey line: never. Dashed in colour: lesions outside the "
            "imaged volume count as missed.",
        )
        for prevalence in PREVALENCES
    ]
    if any(judged.sweep for judged in protocols):
        drawn += [
            (
                "ROC",
                figures.roc(protocols),
                "Line: highest probability said. Small dots: the whole protocol at other "
                "thresholds. Large: as written.",
            ),
            (
                "Threshold sweep",
                figures.sweep(protocols),
                "Solid: sensitivity. Dashed: specificity. Upright: as written.",
            ),
            ("Minutes by threshold", figures.cost(protocols), "Of all triggers together."),
        ]
    if protocols[0].reliability:
        drawn.append(
            (
                "Reliability",
                figures.reliability(protocols),
                "Findings after the last series: what was said, and how often a lesion lay there "
                "in the imaged volume. Depends on the archive's prevalence.",
            )
        )
    shown = "".join(
        f"<figure><h3>{title}</h3>{svg}<figcaption>{caption}</figcaption></figure>"
        for title, svg, caption in drawn
    )
    return f'<section><h2>Curves</h2><p>{legend}</p><div class="charts">{shown}</div></section>'


def _wrong(result: Backtest, archive: Path) -> str:
    parts = []
    for style, judged in zip("ab", result.protocols):
        missed = [wrong for wrong in judged.wrong if wrong.missed]
        for_nothing = [wrong for wrong in judged.wrong if not wrong.missed]
        if not judged.triggers:
            parts.append(
                f'<h3 class="{style}">{escape(judged.name)}</h3>'
                "<p>It decides nothing: every exam is scanned.</p>"
            )
            continue
        parts.append(
            f'<h3 class="{style}">{escape(judged.name)}: {len(missed)} missed, '
            f"{len(for_nothing)} asked for nothing</h3>"
        )
        parts += [_one_wrong(wrong, archive) for wrong in judged.wrong]
    return f"<section><h2>Every wrong decision</h2>{''.join(parts)}</section>"


def _one_wrong(wrong: Wrong, archive: Path) -> str:
    verdict = "missed" if wrong.missed else "asked for nothing"
    facts = [
        ("there", "; ".join(wrong.lesions) or "no lesion"),
        ("looks like one", ", ".join(wrong.mimics) or "nothing known"),
        ("group", wrong.group or "not known"),
        ("highest probability", f"{wrong.score:.2f}"),
        ("trigger", f"{wrong.trigger}: {wrong.state}, {wrong.reason.replace('_', ' ')}"),
        ("why", wrong.detail),
    ]
    if wrong.question:
        facts.append(("asked", wrong.question))
    listed = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts)
    way = "".join(f"<li>{escape(step)}</li>" for step in wrong.way)
    return (
        f'<article class="{"missed" if wrong.missed else "false"}">{_image(archive, wrong.exam)}'
        f"<div><h4>{escape(wrong.exam)} <span>{verdict}</span></h4><dl>{listed}</dl>"
        f"<details><summary>{len(wrong.way)} transitions</summary><ol>{way}</ol></details>"
        "</div></article>"
    )


def _image(archive: Path, exam: str) -> str:
    path = archive / IMAGES / f"{exam}.png"
    if not path.is_file() or path.stat().st_size > LARGEST_IMAGE:
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="key image of {escape(exam)}" src="data:image/png;base64,{data}">'


def _method(result: Backtest) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in result.archive.notes)
    kinds = "".join(
        f"<tr><th>{kind}</th><td>{result.protocols[0].kinds[kind]}</td></tr>" for kind in Kind
    )
    standing = "".join(
        f'<h3 class="{style}">{escape(judged.name)}: where the judged triggers ended</h3>'
        "<table><tbody>"
        + "".join(
            f"<tr><th>{escape(name.replace('_', ' '))}</th><td>{count}</td></tr>"
            for name, count in judged.standing.items()
        )
        + f'</tbody></table><p class="soft">SHA-256 of the protocol {judged.digest}</p>'
        for style, judged in zip("ab", result.protocols)
        if judged.triggers
    )
    return (
        "<section><h2>How it was made</h2><p>Recorded findings went through the trigger machine "
        "as it runs live, each exam on its own: shadow mode, circuit breaker and quiet mode, which "
        f"come from other exams, are not in force. {100 * result.accepts:g} % of questions are "
        f"accepted, {result.answer_after_s:g} s after they were put. An exam is positive where a "
        "lesion lies in the imaged volume and negative where there is none; exams with lesions "
        "outside it are in neither. Triggers count that look for what the archive's truth is "
        "about; minutes are those of all. Net benefit: true positives for each exam less false "
        "ones at the odds of the threshold (Vickers 2006); time is not in it.</p>"
        f"<table><tbody>{kinds}</tbody></table>{standing}<h3>The archive</h3><ul>{notes}</ul>"
        "</section>"
    )
