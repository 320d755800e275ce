// Every word of the page in English and German. Questions come in the words of their protocol.

const WORDS = {
  language: ["Deutsch", "English"],
  exam: ["Exam", "Untersuchung"],
  protocols: ["Protocols", "Protokolle"],
  connections: ["Connections", "Verbindungen"],
  user: ["User name", "Benutzername"],
  password: ["Password", "Passwort"],
  log_in: ["Log in", "Anmelden"],
  log_out: ["Log out", "Abmelden"],
  wrong_login: ["Name or password is wrong.", "Name oder Passwort ist falsch."],
  too_many: ["Too many attempts. Wait a minute.", "Zu viele Versuche. Bitte eine Minute warten."],
  no_server: ["The console does not answer.", "Die Konsole antwortet nicht."],
  guest: ["without login", "ohne Anmeldung"],
  simulated: ["SIMULATED DATA", "SIMULIERTE DATEN"],
  no_exam: ["No exam yet", "Noch keine Untersuchung"],
  no_image: ["Images appear here as soon as they are reconstructed.", "Bilder erscheinen hier, sobald sie rekonstruiert sind."],
  no_pixels: ["Image not available any more", "Bild nicht mehr verfügbar"],
  lost: ["Connection to the console lost. Trying again …", "Verbindung zur Konsole unterbrochen. Neuer Versuch …"],
  back: ["Connected again. Everything is up to date.", "Wieder verbunden. Alles ist aktuell."],
  agent_gone: ["The agent is not running. The scanner goes on without it.", "Der Agent läuft nicht. Der Scanner arbeitet ohne ihn weiter."],
  scanner_lost: ["Connection to the scanner lost: {peer}", "Verbindung zum Scanner unterbrochen: {peer}"],
  dropped: ["{n} images are missing on this page. All images were sent to the scanner.", "{n} Bilder fehlen auf dieser Seite. Alle Bilder wurden an den Scanner gesendet."],
  network: ["Network", "Netz"],
  fallback: ["Conventional", "Konventionell"],
  fallback_why: ["Conventional reconstruction: {why}", "Konventionelle Rekonstruktion: {why}"],
  engine_off: ["Conventional", "Konventionell"],
  steps: ["Steps", "Schritte"],
  left: ["{m} min left", "noch {m} min"],
  all_done: ["complete", "vollständig"],
  min: ["{m} min", "{m} min"],
  running: ["Scanning", "Läuft"],
  extra: ["extra", "zusätzlich"],
  cut: ["Ended early", "Vorzeitig beendet"],
  failed: ["Reconstruction failed. Raw data are safe.", "Rekonstruktion fehlgeschlagen. Rohdaten sind gesichert."],
  unusable: ["Not usable: {why}", "Nicht verwertbar: {why}"],
  images: ["{n} images", "{n} Bilder"],
  slice: ["Slice {i} of {n}", "Schicht {i} von {n}"],
  window: ["W {w}  L {c}", "F {w}  M {c}"],
  overlays: ["Overlays", "Einblendungen"],
  planes: ["Two planes", "Zwei Ebenen"],
  reset: ["Reset window", "Fenster zurücksetzen"],
  mouse: ["Wheel, ↑ ↓: slices · drag: window · click: link", "Rad, ↑ ↓: Schichten · Ziehen: Fenster · Klick: Bezug"],
  synthetic: ["SYNTHETIC", "SYNTHETISCH"],
  synthetic_why: ["SYNTHETIC IMAGE · NOT ACQUIRED", "SYNTHETISCHES BILD · NICHT AUFGENOMMEN"],
  derived: ["Derived", "Berechnet"],
  incomplete: ["Incomplete: lines are missing", "Unvollständig: Zeilen fehlen"],
  findings: ["What was noticed", "Was auffiel"],
  after_series: ["after {n} series", "nach {n} Serien"],
  nothing: ["Nothing noticed so far.", "Bisher nichts aufgefallen."],
  no_findings: ["Noticed regions appear here after each series.", "Auffällige Stellen erscheinen hier nach jeder Serie."],
  abstained: ["Nothing may be concluded: {why}", "Keine Aussage möglich: {why}"],
  levels: ["The numbering of the vertebrae is uncertain.", "Die Zählung der Wirbel ist unsicher."],
  disagree: ["Network and conventional reconstruction differ here.", "Netz und konventionelle Rekonstruktion unterscheiden sich hier."],
  never: ["Signal, not diagnosis. Not clinically validated.", "Signal, keine Diagnose. Nicht klinisch validiert."],
  likely: ["probability", "Wahrscheinlichkeit"],
  seen: ["{series} · {n} slices · {ml} ml", "{series} · {n} Schichten · {ml} ml"],
  question: ["Scan more?", "Mehr aufnehmen?"],
  yes: ["Scan", "Aufnehmen"],
  yes_more: ["+{m} min, after the planned steps", "+{m} min, nach den geplanten Schritten"],
  no: ["No", "Nein"],
  no_more: ["go on as planned", "wie geplant weiter"],
  sum: ["Together", "Zusammen"],
  silent: ["No answer means no.", "Keine Antwort heißt nein."],
  may_not: ["Answered by the technologist.", "Wird von der MTR beantwortet."],
  sending: ["Sent. Waiting for the agent …", "Gesendet. Warten auf den Agenten …"],
  unheard: ["The agent has not confirmed yet. The click is kept.", "Der Agent hat noch nicht bestätigt. Der Klick ist gespeichert."],
  too_late: ["The question is closed. Nothing was changed.", "Die Frage ist geschlossen. Nichts wurde geändert."],
  not_sent: ["Not sent: {why}", "Nicht gesendet: {why}"],
  accepted: ["Accepted{by}. It follows the planned steps.", "Angenommen{by}. Folgt auf die geplanten Schritte."],
  declined: ["Declined{by}. The exam goes on as planned.", "Abgelehnt{by}. Die Untersuchung geht wie geplant weiter."],
  no_answer: ["No answer: the exam goes on as planned.", "Keine Antwort: Die Untersuchung geht wie geplant weiter."],
  withdrawn: ["The question was taken back.", "Die Frage wurde zurückgezogen."],
  modified: ["Accepted with other slices.", "Mit anderen Schichten angenommen."],
  scheduled: ["In the scanner's queue.", "In der Warteschlange des Scanners."],
  done: ["Scanned.", "Aufgenommen."],
  not_done: ["Accepted, but not scanned.", "Angenommen, aber nicht aufgenommen."],
  by: [" by {who}", " von {who}"],
  more: ["More images", "Weitere Bilder"],
  close: ["Close", "Schließen"],
  show: ["Show", "Zeigen"],
  choose_series: ["Choose a series that was scanned.", "Bitte eine aufgenommene Serie wählen."],
  ask_contrast: ["Other contrast", "Anderer Kontrast"],
  ask_field_of_view: ["Larger field of view", "Größeres Messfeld"],
  ask_chain: ["Other reconstruction", "Andere Rekonstruktion"],
  ask_enhancement: ["Virtual enhancement", "Virtuelles Kontrastmittel"],
  contrast_needs: ["Synthetic, from T1, T2 and proton density maps: needs a series with several delays and echoes.", "Synthetisch, aus T1-, T2- und Protonendichtekarten: braucht eine Serie mit mehreren Verzögerungen und Echos."],
  field_of_view_needs: ["All that was encoded, from the stored raw data.", "Alles, was kodiert wurde, aus den gespeicherten Rohdaten."],
  enhancement_needs: ["Research only. Signal after contrast agent is not determined by images without.", "Nur Forschung. Das Signal nach Kontrastmittel ist durch Bilder ohne nicht bestimmt."],
  chain_conventional: ["Conventional", "Konventionell"], chain_dl: ["Network", "Netz"],
  chain_denoise: ["Denoised", "Entrauscht"], chain_grappa: ["GRAPPA", "GRAPPA"],
  no_inversion: ["none", "ohne"],
  compute: ["Compute", "Berechnen"],
  asked_for: ["Asked for. Scanning goes on meanwhile.", "Angefragt. Die Aufnahme läuft währenddessen weiter."],
  asked_so_far: ["Asked for so far", "Bisher angefragt"],
  request_waiting: ["waits", "wartet"], request_running: ["is being computed", "wird berechnet"],
  request_done: ["{n} images in {s} s", "{n} Bilder in {s} s"],
  request_refused: ["Not possible", "Nicht möglich"], request_failed: ["Failed", "Fehlgeschlagen"],
  left_side: ["left", "links"], right_side: ["right", "rechts"], midline: ["", ""],
  // protocols
  search_protocol: ["Protocols", "Protokolle"],
  shipped: ["shipped", "mitgeliefert"], own: ["this site", "dieses Haus"],
  overrides: ["this site, overrides the shipped one", "dieses Haus, ersetzt das mitgelieferte"],
  revision: ["revision {r}", "Revision {r}"],
  problems: ["{n} problems", "{n} Fehler"], problem_1: ["1 problem", "1 Fehler"],
  fine: ["No problems", "Keine Fehler"],
  checking: ["Checking …", "Wird geprüft …"],
  says: ["What it says", "Was es sagt"], changes: ["Changes", "Änderungen"], history: ["Versions", "Versionen"],
  unchanged: ["As it is in force.", "So wie in Kraft."],
  publish: ["Publish", "Veröffentlichen"],
  reason: ["Why? It will stand in the audit.", "Warum? Es steht dann im Audit."],
  published: ["{name} revision {r} is in force.", "{name} Revision {r} ist in Kraft."],
  never_published: ["Never published here.", "Hier nie veröffentlicht."],
  open_version: ["Open", "Öffnen"],
  reports: ["Backtest reports", "Backtest-Berichte"],
  no_reports: ["None yet: boreside backtest PROTOCOL ARCHIVE", "Noch keine: boreside backtest PROTOKOLL ARCHIV"],
  unsaved: ["Leave the changes?", "Änderungen verwerfen?"],
  planned_of: ["{m} min of a slot of {s} min", "{m} min von {s} min"],
  sweep: ["Thresholds", "Schwellen"], shadow: ["Shadow mode", "Schattenbetrieb"],
  no_sweep: ["No backtest of this protocol yet: boreside backtest PROTOCOL ARCHIVE", "Noch kein Backtest dieses Protokolls: boreside backtest PROTOKOLL ARCHIV"],
  no_shadow: ["Nothing noted yet. New triggers only note until the site has seen enough exams.", "Noch nichts notiert. Neue Auslöser notieren nur, bis genug Untersuchungen gesehen sind."],
  threshold: ["Threshold", "Schwelle"], in_force: ["in force: {up}", "in Kraft: {up}"],
  sensitivity: ["Sensitivity", "Sensitivität"], specificity: ["Specificity", "Spezifität"],
  asks: ["Scans", "Aufnahmen"], per_100: ["in 100 exams", "in 100 Untersuchungen"],
  added: ["Added", "Zusätzlich"], per_exam: ["per exam", "je Untersuchung"], exams: ["{n} exams", "{n} Untersuchungen"],
  held: ["held in {n} of the latest {of} exams", "erfüllt in {n} der letzten {of} Untersuchungen"],
  asks_now: ["asks", "fragt"], would_have: ["Would have asked", "Hätte gefragt"],
  // connections
  peer: ["Peer", "Gegenstelle"], role: ["Role", "Rolle"], state: ["State", "Zustand"], since: ["Since", "Seit"],
  open: ["open", "offen"], closed: ["closed", "geschlossen"], lost_state: ["lost", "unterbrochen"],
  latency: ["Last readout to image", "Letztes Readout bis Bild"],
  median: ["median", "Median"], most: ["largest", "größte"],
  measurements: ["Measurements", "Messungen"], measurement: ["Measurement", "Messung"],
  outcome: ["Outcome", "Ergebnis"], received: ["Received", "Empfangen"], rate: ["Rate", "Rate"],
  spool: ["Spool", "Spool"], unfinished: ["{n} unfinished", "{n} unfertig"],
  log: ["Log", "Protokoll"], none: ["none", "keine"],
  agent: ["Agent", "Agent"], alive: ["running", "läuft"], stopped: ["not running", "läuft nicht"],
  delivered: ["delivered", "zugestellt"], outcome_failed: ["failed", "fehlgeschlagen"], outcome_cut: ["cut off", "abgebrochen"], outcome_running: ["running", "läuft"],
  missing_here: ["Missing on the page", "Fehlen auf der Seite"],
};

const TYPES = {
  oedema_like: ["Bright marrow signal", "Helles Knochenmarksignal"],
  fat_like: ["Fat-like signal", "Fettähnliches Signal"],
  sclerosis_like: ["Dark on every contrast", "Dunkel in allen Kontrasten"],
  replacement_like: ["Marrow without fat", "Knochenmark ohne Fett"],
  fluid_and_fat_like: ["Bright on T1 and on T2", "Hell in T1 und in T2"],
  disc_signal_loss: ["Disc has lost signal", "Bandscheibe mit Signalverlust"],
  disc_bulge_like: ["Disc reaches beyond its border", "Bandscheibe überragt ihren Rand"],
  height_loss: ["Lower than its neighbours", "Niedriger als die Nachbarn"],
  canal_narrow: ["Spinal canal narrow", "Spinalkanal eng"],
  offset: ["Vertebra displaced", "Wirbel versetzt"],
  anomaly: ["Unusual signal", "Ungewöhnliches Signal"],
};
const STRUCTURES = {
  vertebra: ["vertebral body", "Wirbelkörper"], endplate: ["endplate", "Endplatte"],
  corner: ["vertebral corner", "Wirbelkante"], facet: ["facet joint", "Facettengelenk"],
  disc: ["disc", "Bandscheibe"], canal: ["spinal canal", "Spinalkanal"], sacrum: ["sacrum", "Kreuzbein"],
  sacral_subchondral: ["SI joint, sacral side", "ISG, sakrale Seite"],
  iliac_subchondral: ["SI joint, iliac side", "ISG, iliakale Seite"],
  si_joint: ["SI joint", "ISG"], paraspinal_muscle: ["muscle beside the spine", "Muskel neben der Wirbelsäule"],
};
// Patient directions at the edges of an image, by letter of LPS.
const LETTERS = { R: ["R", "R"], L: ["L", "L"], A: ["A", "A"], P: ["P", "P"], H: ["H", "K"], F: ["F", "F"] };

const stored = localStorage.getItem("language");
export const language = stored ?? (navigator.language.startsWith("de") ? "de" : "en");
const place = language === "de" ? 1 : 0;
document.documentElement.lang = language;

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

export const t = (key, values = {}) => fill(WORDS[key][place], values);
export const letter = (key) => LETTERS[key][place];
export const typeOf = (finding) => TYPES[finding.type][place];

export function whereOf(finding) {
  const side = finding.side === "midline" ? "" : t(`${finding.side}_side`);
  return [finding.level, STRUCTURES[finding.structure][place], side].filter(Boolean).join(" · ");
}

const one = new Intl.NumberFormat(language, { maximumFractionDigits: 1, minimumFractionDigits: 1 });
export const number = (value) => one.format(value);
export const minutes = (value) => t("min", { m: one.format(value) });
export const clock = (seconds) => new Date(1000 * seconds).toLocaleTimeString(language);

export function switchLanguage() {
  localStorage.setItem("language", language === "de" ? "en" : "de");
  location.reload();
}

export const keys = () => Object.keys(WORDS);
