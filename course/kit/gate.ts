/** Holds one query or command on the wire, before the server has seen it. */
export interface Gate {
  /** Resolves when the query or command is held; rejects when none has come within 4 s. */
  readonly arrived: Promise<void>;
  /** Lets it go on to the server; lets the next one pass if none has come yet. */
  release(): void;
}

const ARRIVES_WITHIN_MS = 4000;

export class HeldGate implements Gate {
  readonly arrived: Promise<void>;
  readonly #pattern: RegExp;
  readonly #arrival = signal();
  readonly #opening = signal();
  #open = false;

  constructor(pattern: RegExp) {
    this.#pattern = pattern;
    this.arrived = Promise.race([this.#arrival.promise, this.#late()]);
    this.arrived.catch(() => {});
  }

  /** A gate holds one request: the first that matches. */
  takes(text: string): boolean {
    if (this.#open || this.#arrival.fired || !this.#pattern.test(text)) return false;
    this.#arrival.fire();
    return true;
  }

  pass(): Promise<void> {
    return this.#opening.promise;
  }

  release(): void {
    this.#open = true;
    this.#opening.fire();
  }

  async #late(): Promise<void> {
    const expired = await Promise.race([
      this.#arrival.promise,
      this.#opening.promise,
      timeout(ARRIVES_WITHIN_MS),
    ]);
    if (expired === 'timeout')
      throw new Error(`nothing that matches ${this.#pattern} was sent to the server`);
  }
}

/** A promise to be fired from outside. */
export function signal() {
  let fire = () => {};
  const promise = new Promise<void>((resolve) => {
    fire = resolve;
  });
  const it = {
    promise,
    fired: false,
    fire() {
      it.fired = true;
      fire();
    },
  };
  return it;
}

const timeout = (ms: number) =>
  new Promise<'timeout'>((resolve) => {
    setTimeout(() => resolve('timeout'), ms).unref();
  });
