/**
 * Doubly linked lists of keys, in two typed arrays: a key is in at most one of them. Each list is a ring that is closed by
 * an anchor, so that no operation asks whether a neighbour exists.
 */
export class Lists {
  readonly #keys: number;
  readonly #towardsHead: Int32Array;
  readonly #towardsTail: Int32Array;

  constructor(keys: number, lists: number) {
    this.#keys = keys;
    this.#towardsHead = new Int32Array(keys + lists);
    // An empty list is an anchor that is its own neighbour.
    for (let list = 0; list < lists; list++) this.#towardsHead[keys + list] = keys + list;
    this.#towardsTail = this.#towardsHead.slice();
  }

  /** The anchor of a list: it stands before the head and after the tail. */
  anchor(list: number): number {
    return this.#keys + list;
  }

  /** The anchor, if the list is empty. */
  tail(list: number): number {
    return this.#towardsHead[this.#keys + list] as number;
  }

  /** The next key towards the head, or the anchor. */
  ahead(key: number): number {
    return this.#towardsHead[key] as number;
  }

  addHead(list: number, key: number): void {
    this.insertBehind(this.#keys + list, key);
  }

  addTail(list: number, key: number): void {
    this.insertBehind(this.tail(list), key);
  }

  /** @param place a key of a list, or its anchor: then `key` is the head */
  insertBehind(place: number, key: number): void {
    const behind = this.#towardsTail[place] as number;
    this.#towardsTail[place] = key;
    this.#towardsHead[key] = place;
    this.#towardsTail[key] = behind;
    this.#towardsHead[behind] = key;
  }

  /** @param key is in a list */
  remove(key: number): void {
    const ahead = this.#towardsHead[key] as number;
    const behind = this.#towardsTail[key] as number;
    this.#towardsTail[ahead] = behind;
    this.#towardsHead[behind] = ahead;
  }

  removeTail(list: number): number {
    const key = this.tail(list);
    this.remove(key);
    return key;
  }
}
