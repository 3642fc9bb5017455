/** A queue of keys that never holds more than `capacity`. */
export class Ring {
  size = 0;
  readonly #keys: Int32Array;
  #oldest = 0;

  constructor(capacity: number) {
    this.#keys = new Int32Array(capacity);
  }

  push(key: number): void {
    const end = this.#oldest + this.size++;
    this.#keys[end < this.#keys.length ? end : end - this.#keys.length] = key;
  }

  /** The oldest key. */
  shift(): number {
    const key = this.#keys[this.#oldest] as number;
    this.#oldest = this.#oldest + 1 === this.#keys.length ? 0 : this.#oldest + 1;
    this.size--;
    return key;
  }
}
