// The messages of `/duplex`, which have a number and different contents.

const HEAD = 10;
const STEPS = 997;
const ALPHABET = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_');

/** The high bytes of a xorshift generator. */
function noise(size) {
  const result = Buffer.alloc(size);
  let state = 2463534242;
  for (let index = 0; index < size; index += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    result[index] = state >>> 24;
  }
  return result;
}

/** Makes and checks messages of one size. */
export class Numbered {
  constructor(size) {
    this.size = size;
    this.binary = noise(size - HEAD + STEPS);
    this.text = Buffer.from(this.binary.map((byte) => ALPHABET[byte & 63]));
  }

  /** The bytes of a message; messages with even numbers are text. */
  message(sender, number) {
    const start = number % STEPS;
    const body = (number % 2 ? this.binary : this.text).subarray(start, start + this.size - HEAD);
    return Buffer.concat([Buffer.from(`${sender}${String(number).padStart(9, '0')}`), body]);
  }
}

/** Checks that messages are received in order, complete and once. */
export class SequenceCheck {
  count = 0;
  wrong = null;

  constructor(numbered, sender) {
    this.numbered = numbered;
    this.sender = sender;
  }

  check(data, binary) {
    const wanted = this.numbered.message(this.sender, this.count);
    if (this.wrong === null && (binary !== (this.count % 2 === 1) || !wanted.equals(data))) {
      const head = data.subarray(0, HEAD).toString('latin1');
      this.wrong = `message ${this.count} is ${binary ? 'binary' : 'text'} of ${data.length}: ${head}`;
    }
    this.count += 1;
  }
}
