// An agent of level L1 with the official client of NATS, written from docs/messages.md.
//   CLAYTOM_SUBJECT=org.claytom.pricing.operator.op-0042-g2 NATS_URL=nats://… [CLAYTOM_CREDS=agent.creds] node agent.mjs
import { readFileSync } from "node:fs";
import { connect, credsAuthenticator, headers, JSONCodec } from "nats";

const subject = process.env.CLAYTOM_SUBJECT;
const [, , unit, role, id] = subject.split(".");
const url = new URL(process.env.NATS_URL);
const creds = process.env.CLAYTOM_CREDS;
const json = JSONCodec();
const nc = await connect({
  servers: url.host,
  name: `agent:${id}`,
  maxReconnectAttempts: -1,
  // An agent may read its own inboxes only.
  inboxPrefix: creds ? `_INBOX_${unit}_${role}_${id}` : "_INBOX_host",
  ...(creds
    ? { authenticator: credsAuthenticator(readFileSync(creds)) }
    : { user: decodeURIComponent(url.username), pass: decodeURIComponent(url.password) }),
});

const metrics = (kind) => `org.claytom.${unit}.metrics.${kind}`;
const now = () => new Date().toISOString();
const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
let epoch = 0, state = "starting", done = 0, inTime = 0, terms = {};
const started = Date.now();

// The headers of a binary CloudEvent; `store` adds the id by which a stream drops what it has already.
function head(type, ceId, store = false) {
  const h = headers();
  h.set("ce-specversion", "1.0");
  h.set("ce-id", ceId);
  h.set("ce-type", `org.claytom.${type}.v1`);
  h.set("ce-source", subject);
  h.set("ce-time", now());
  h.set("Content-Type", "application/json");
  h.set("Claytom-Epoch", String(epoch));
  if (store) h.set("Nats-Msg-Id", ceId);
  return h;
}

// Publish to a stream and wait for its PubAck; repeat with the same id.
async function store(kind, type, ceId, body) {
  for (const wait of [0.5, 1, 2, 0]) {
    try {
      const reply = json.decode((await nc.request(metrics(kind), json.encode(body), { headers: head(type, ceId, true), timeout: 5000 })).data);
      if (reply.error) throw new Error(reply.error.description);
      return;
    } catch (error) {
      if (!wait) throw error;
      await sleep(wait * (1 + Math.random() / 4));
    }
  }
}

// agent.hello: ask for terms until welcome; the epoch of the answer goes into every message.
async function hello() {
  const body = {
    protocol: "claytom/1",
    agent: { id, role, name: "node-example", version: "1" },
    worker: { kind: "callable", lang: "node" },
    resume: { last_epoch: epoch },
  };
  for (let wait = 1; ; wait = Math.min(wait * 2, 60)) {
    try {
      const answer = json.decode((await nc.request(`org.claytom.${unit}.command.hello`, json.encode(body), { headers: head("agent.hello", `hello-${id}-${now()}`), timeout: 5000 })).data);
      if (answer.epoch) {
        ({ epoch } = answer);
        terms = answer;
        return;
      }
      console.error("hello refused:", answer.code, answer.reason);
      if (["fenced", "not-enrolled", "protocol"].includes(answer.code)) process.exit(1);
      wait = answer.retry_after_s ?? wait;
    } catch (error) {
      console.error("no answer to hello:", error.message);
    }
    await sleep(wait * (0.5 + Math.random() / 2));
  }
}

// agent.ping and whatever else is sent to the address.
(async () => {
  for await (const message of nc.subscribe(subject)) {
    const type = message.headers?.get("ce-type");
    message.respond(json.encode(type === "org.claytom.agent.ping.v1"
      ? { agent: subject, state, epoch, host: `a-${id}` }
      : { status: "rejected", code: "unknown-type" }));
  }
})();

// host.presence: at every interval.
async function presence() {
  for (let n = 1; ; n++) {
    const body = {
      ts: now(), subsidiary: unit, host: `a-${id}`, division: `${unit}.a-${id}`, epoch, observed_generation: 0,
      total: 1, counts: { [state]: 1 }, full: true, agents: [[id, state, done, 0]],
    };
    if (nc.isClosed()) return;
    nc.publish(metrics("presence"), json.encode(body), { headers: head("host.presence", `pr-${id}-${epoch}-${n}`) });
    await sleep(terms.presence_interval_s ?? 5);
  }
}

// kpi.sample: the standard JSON, as counted since the start. What this agent does not do is 0.
async function kpis() {
  for (;;) {
    const interval = terms.kpi_interval_s ?? 60;
    const days = Math.max((Date.now() - started) / 86_400_000, 1 / 24);
    const body = {
      ts: now(), subsidiary: unit, role,
      kpis: {
        throughput_per_day: done / days, quality_score: 100, sla_met_pct: done ? (100 * inTime) / done : 100,
        innovation_landings_mo: 0, training_hours_w: 0,
      },
      okrs: { O1: "Echo in time" },
    };
    const round = Math.floor(Date.now() / 1000 / interval) * interval;
    await store("kpi", "kpi.sample", `kpi-${unit}-${id}-${Math.floor(round)}`, body).catch((error) => console.error("kpi:", error.message));
    await sleep(interval);
  }
}

// work.assigned: pull one item at a time from the queue of the role; publish its result, and only then +ACK.
async function work() {
  const inbox = `${creds ? `_INBOX_${unit}_${role}_${id}` : "_INBOX_host"}.work`;
  const items = nc.subscribe(inbox);
  const ask = () => nc.publish(`$JS.API.CONSUMER.MSG.NEXT.CT_WORK.${unit}-${role}`, json.encode({ batch: 1, expires: 5e9 }), { reply: inbox });
  ask();
  for await (const message of items) {
    if (message.headers?.code) { // 408: nothing came; others: the queue says why
      if (message.headers.code !== 408) await sleep(1);
    } else {
      await doItem(message);
    }
    ask();
  }
}

async function doItem(message) {
  let item;
  try {
    item = json.decode(message.data);
  } catch (error) {
    nc.publish(message.reply, `+TERM ${error.message}`);
    return;
  }
  state = "busy";
  const began = Date.now();
  try {
    await store("result", "work.result", `res-${item.id}`, {
      ts: now(), work_id: item.id, agent: subject, status: "completed", output: { echo: item.input ?? null },
      attempt: Number(message.reply.split(".").at(-5)), wall_ms: Date.now() - began,
    });
    nc.publish(message.reply, "+ACK");
    done += 1;
    inTime += Date.now() <= Date.parse(item.deadline) ? 1 : 0;
  } catch (error) {
    console.error("result not stored:", error.message);
    nc.publish(message.reply, "-NAK");
  }
  state = "idle";
}

// After a break of the line, ask whether the epoch still holds.
(async () => {
  for await (const status of nc.status()) if (status.type === "reconnect") await hello();
})();

// Closed for good: the login was revoked, or has expired.
nc.closed().then((error) => {
  if (stopping) return;
  console.error("NATS closed the connection and takes no new one:", error?.message ?? "no reason given");
  process.exit(1);
});

let stopping = false;
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, async () => {
    stopping = true;
    const body = json.encode({ agent: subject, epoch, reason: "stopped" });
    await nc.request(`org.claytom.${unit}.command.goodbye`, body, { headers: head("agent.goodbye", `goodbye-${id}-${epoch}`), timeout: 2000 }).catch(() => {});
    await nc.drain();
    process.exit(0);
  });
}

await hello();
state = "idle";
presence();
kpis();
work();
