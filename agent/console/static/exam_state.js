// What is known of the exam, out of the events in their order. Knows nothing of the page.

export class ExamState {
  constructor() { this.begin(); }

  begin() {
    this.exam = null;
    this.plan = null;
    this.measurements = new Map();
    this.findings = null;
    this.question = null;
    this.questions = new Map();
    this.answers = new Map();
    this.engine = null;
    this.peers = new Map();
    this.dropped = 0;
  }

  // Takes an event; returns true where a new exam has begun.
  take(event) {
    const fresh = event.kind === "exam" && event.exam !== this.exam;
    if (fresh) {
      const { engine, peers } = this;
      this.begin();
      Object.assign(this, { engine, peers, exam: event.exam });
    }
    if (event.exam && event.exam !== this.exam) return false;
    this[`on_${event.kind}`]?.(event);
    return fresh;
  }

  on_exam(event) { this.plan = event; }
  on_begun(event) { this.measurements.set(event.measurement, { ...event, received: 0, pictures: 0 }); }
  on_progress(event) { const m = this.measurements.get(event.measurement); if (m) m.received = event.readouts; }
  on_ended(event) { const m = this.measurements.get(event.measurement); if (m) m.end = event; }
  on_picture(event) { const m = this.measurements.get(event.measurement); if (m) m.pictures += 1; }
  on_findings(event) { this.findings = event.findings; }
  on_question(event) { this.question = event; this.questions.set(event.request.id, event); }
  on_answer(event) { this.answers.set(event.request, event); }
  on_engine(event) { this.engine = event; }
  on_connection(event) { this.peers.set(event.id, event); }
  on_dropped(event) { this.dropped += event.pictures; }

  get answer() { return this.question ? this.answers.get(this.question.request.id) : undefined; }
  get open() { return this.question && !this.answer ? this.question : null; }

  // Slabs to draw: what is asked, or was accepted and is not scanned yet.
  get slabs() {
    const wanted = this.open || (this.answer && ["accepted", "scheduled"].includes(this.answer.outcome));
    return wanted ? this.question.request.steps.map((step) => step.slab) : [];
  }

  title(name) {
    const known = [...(this.plan?.steps ?? []), ...(this.plan?.on_demand ?? [])];
    return known.find((step) => step.name === name)?.title || name;
  }

  // Steps that were asked for and accepted, behind the planned ones.
  get accepted() {
    const found = [];
    for (const [id, { request }] of this.questions) {
      const outcome = this.answers.get(id)?.outcome;
      if (!["accepted", "scheduled", "modified", "done"].includes(outcome)) continue;
      for (const { step, minutes } of request.steps) found.push({ name: step, title: this.title(step), minutes, asked: true });
    }
    return found;
  }

  // The steps in order, with what became of them.
  get steps() {
    const last = new Map();
    for (const m of this.measurements.values()) last.set(m.step, m);
    const planned = [...(this.plan?.steps ?? []), ...this.accepted].map((step) => ({ ...step, ...this.standing(last.get(step.name)) }));
    const names = new Set(planned.map((step) => step.name));
    const others = [...last.values()].filter((m) => !names.has(m.step));
    return [...planned, ...others.map((m) => ({ name: m.step, title: m.title || m.step, minutes: 0, ...this.standing(m) }))];
  }

  standing(m) {
    if (!m) return { state: "waiting" };
    const quality = this.findings?.quality.find((q) => q.series === m.step);
    if (m.end) return { state: m.end.outcome === "failed" ? "failed" : "done", cut: m.end.outcome === "cut", images: m.end.images, quality };
    return { state: "running", done: m.readouts ? Math.min(1, m.received / m.readouts) : null, images: m.pictures, quality };
  }
}
