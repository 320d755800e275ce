// Events of the agent as they come, and whether they still come.
// Every event has a number; after a cut the stream goes on behind the last one.

const SILENT_MS = 3500;
const AGENT_SILENT_S = 5;

export class Live {
  // handlers: begin(), event(object), line({console, agent}) whenever one of them comes or goes.
  constructor(handlers) {
    this.handlers = handlers;
    this.seen = "";
    this.number = 0;
    this.offset = 0;
    this.agent = null;
    this.console = null;
    this.heard = performance.now();
    this.connect();
    setInterval(() => this.look(), 500);
  }

  // Seconds since 1970 on the clock of the agent's machine.
  now() { return Date.now() / 1000 + this.offset; }

  connect() {
    this.source?.close();
    this.heard = performance.now();
    const source = new EventSource(`/api/events?seen=${encodeURIComponent(this.seen)}`);
    this.source = source;
    source.addEventListener("hello", (frame) => {
      const { again } = this.frame(frame);
      if (!again) { this.number = 0; this.handlers.begin(); }
      this.tell({ console: true });
    });
    source.addEventListener("alive", (frame) => {
      const { agent_s, now_s } = this.frame(frame);
      this.tell({ console: true, agent: now_s - agent_s < AGENT_SILENT_S });
    });
    source.onmessage = (frame) => {
      this.heard = performance.now();
      const event = JSON.parse(frame.data);
      if (event.number <= this.number) return;
      this.number = event.number;
      this.seen = frame.lastEventId;
      this.handlers.event(event);
    };
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) this.gone(); };
  }

  frame(frame) {
    this.heard = performance.now();
    const fields = JSON.parse(frame.data);
    this.offset = fields.now_s - Date.now() / 1000;
    return fields;
  }

  look() {
    if (performance.now() - this.heard > SILENT_MS) this.gone();
  }

  gone() {
    this.tell({ console: false });
    if (!this.again) {
      this.again = setTimeout(async () => {
        this.again = null;
        const answer = await fetch("/api/me").catch(() => null);
        if (answer?.status === 401) location.href = "/login";
        else this.connect();
      }, 700);
    }
  }

  tell(line) {
    const before = [this.console, this.agent];
    Object.assign(this, line);
    if (before[0] !== this.console || before[1] !== this.agent) {
      this.handlers.line({ console: this.console, agent: this.agent, back: before[0] === false && this.console });
    }
  }
}
