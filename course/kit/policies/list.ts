/** A place in a `List`. Keep it to remove the value later, wherever in the list it is by then. */
export interface Node<T> {
  readonly value: T;
  /** The next node towards the head; none at the head. */
  readonly towardsHead: Node<T> | undefined;
  /** The next node towards the tail; none at the tail. */
  readonly towardsTail: Node<T> | undefined;
}

type Link<T> = { value: T; towardsHead: Link<T> | undefined; towardsTail: Link<T> | undefined };

/** A doubly linked list: every operation takes the same time, however long the list is. */
export class List<T> {
  #head: Link<T> | undefined;
  #tail: Link<T> | undefined;

  get head(): Node<T> | undefined {
    return this.#head;
  }

  get tail(): Node<T> | undefined {
    return this.#tail;
  }

  get isEmpty(): boolean {
    return this.#head === undefined;
  }

  /** @returns where `value` is now */
  addHead(value: T): Node<T> {
    const link: Link<T> = { value, towardsHead: undefined, towardsTail: this.#head };
    if (this.#head) this.#head.towardsHead = link;
    else this.#tail = link;
    this.#head = link;
    return link;
  }

  /** @param node of this list, and not removed before */
  remove(node: Node<T>): void {
    const { towardsHead, towardsTail } = node as Link<T>;
    if (towardsHead) towardsHead.towardsTail = towardsTail;
    else this.#head = towardsTail;
    if (towardsTail) towardsTail.towardsHead = towardsHead;
    else this.#tail = towardsHead;
  }
}
