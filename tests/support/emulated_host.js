// The same requests as emulated_host.c takes, for WebAssembly: memory has no pages that are not there,
// so canaries stand for them, and there are no threads.
const fs = require('node:fs');
const CANARY = 0xc5, MARGIN = 4096, ALIGN = 64;
let read = Buffer.alloc(0);

function more() {
  const part = Buffer.alloc(1 << 16);
  const count = fs.readSync(0, part);
  read = Buffer.concat([read, part.subarray(0, count)]);
  return count > 0;
}

function take(count) {
  while (read.length < count) if (!more()) process.exit(9);
  const part = read.subarray(0, count);
  read = read.subarray(count);
  return part;
}

function line() {
  while (!read.includes(10)) if (!more()) process.exit(0);
  const end = read.indexOf(10);
  const text = take(end + 1).toString();
  return text.trim().split(' ');
}

for (;;) {
  const [path, name, at_end, , inputs, outputs, , arena_bytes, ...sizes] = line();
  const counts = [Number(inputs), Number(outputs)];
  const lengths = [...sizes, arena_bytes].map(Number);
  const given = lengths.slice(0, counts[0]).map((size) => Buffer.from(take(size)));
  const code = new WebAssembly.Module(fs.readFileSync(path));
  const { exports } = new WebAssembly.Instance(code);
  let end = exports.__heap_base.value;
  const places = lengths.map((size) => {
    const begin = Math.ceil((end + MARGIN) / ALIGN) * ALIGN;
    const padding = Math.ceil(size / ALIGN) * ALIGN - size;
    end = begin + size + padding;
    const aligned = size % ALIGN === 0 || at_end === '0';
    return aligned ? begin : begin + padding;
  });
  end += MARGIN;
  const missing = end - exports.memory.buffer.byteLength;
  if (missing > 0) exports.memory.grow(Math.ceil(missing / 65536));
  const memory = Buffer.from(exports.memory.buffer);
  memory.fill(CANARY, exports.__heap_base.value, end);
  given.forEach((bytes, i) => bytes.copy(memory, places[i]));
  const status = exports[`${name}_run`](...places);
  let stray = 0, at = exports.__heap_base.value;
  lengths.forEach((size, i) => {
    for (; at < places[i]; at++) stray += memory[at] !== CANARY;
    if (i < counts[0]) stray += !memory.subarray(at, at + size).equals(given[i]);
    at += size;
  });
  for (; at < end; at++) stray += memory[at] !== CANARY;
  const answers = places.slice(counts[0], -1).map((place, i) =>
    memory.subarray(place, place + lengths[counts[0] + i]));
  const answer = Buffer.concat([Buffer.from(`${status} ${stray}\n`), ...answers]);
  for (let sent = 0; sent < answer.length;) sent += fs.writeSync(1, answer, sent);
}
