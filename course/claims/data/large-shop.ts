import type { Row, TableName } from '../../kit/data/schema';
import { seeded } from '../../kit/random';
import {
  anyTime,
  anyUser,
  below,
  centsOf,
  ids,
  money,
  pick,
  popularProduct,
  popularUser,
  risingTime,
  SIZES,
  stockOf,
  YEAR_MS,
} from './dice';
import { BRAND_FIRST, BRAND_LAST, COLOURS, MATERIALS, SHELVES, VERDICTS } from './words';

const roots = Object.keys(SHELVES);
const shelves = Object.entries(SHELVES).flatMap(([root, things]) => things.map((thing) => ({ root, thing })));
const spaced = (name: string) => name.replace('-', ' ');
const capital = (name: string) => name.charAt(0).toUpperCase() + name.slice(1);

/** The shop's rows. Each table draws from a source of its own, so that one can be made again without the others. */
export const SHOP = {
  categories: () => [
    ...roots.map((root, index): Row => [index + 1, null, root, root.toLowerCase()]),
    ...shelves.map(
      ({ root, thing }, index): Row => [
        roots.length + index + 1,
        roots.indexOf(root) + 1,
        capital(spaced(thing)),
        thing,
      ],
    ),
  ],

  brands: () =>
    ids(SIZES.brands).map((id) => [id, `${BRAND_FIRST[id % 12]}${BRAND_LAST[Math.floor((id - 1) / 12)]}`]),

  products: () => {
    const random = seeded(3);
    return ids(SIZES.products).map((id) => {
      const shelf = below(random, shelves.length);
      const thing = spaced(shelves[shelf]?.thing ?? '');
      const material = pick(random, MATERIALS);
      const colour = pick(random, COLOURS);
      return [
        id,
        `${capital(material)} ${thing}, ${colour}`,
        money(centsOf(id)),
        stockOf(id),
        roots.length + shelf + 1,
        anyTime(random),
        below(random, SIZES.brands) + 1,
        `A ${thing} of ${material} in ${colour}, ${10 + below(random, 80)} cm, ${100 + below(random, 4000)} g. ` +
          'Made in small runs; the grain and the shade differ from piece to piece. Wipe clean with a damp cloth.',
      ];
    });
  },

  *product_images() {
    const random = seeded(4);
    let id = 0;
    for (const product of ids(SIZES.products)) {
      const count = 1 + below(random, 3);
      for (let position = 1; position <= count; position++) {
        yield [++id, product, position, `/img/${product}-${position}.webp`];
      }
    }
  },

  *reviews() {
    const random = seeded(5);
    const product = popularProduct(random, 0.8);
    for (const id of ids(SIZES.reviews)) {
      // More good than bad, as in shops.
      const rating = 1 + Math.floor(5 * random() ** 0.5);
      const body = pick(random, VERDICTS[rating - 1] ?? []);
      yield [id, product(), anyUser(random)(), rating, body, risingTime(random, id - 1, SIZES.reviews)];
    }
  },

  *inventory() {
    const random = seeded(6);
    for (const product of ids(SIZES.products)) {
      const stock = stockOf(product);
      const north = below(random, stock + 1);
      const counted = anyTime(random);
      yield [product, 'BER', north, counted];
      if (stock > north) yield [product, 'LYS', stock - north, counted];
    }
  },

  *orders() {
    const random = seeded(7);
    const product = popularProduct(random, 1);
    const user = popularUser(random, 0.6);
    for (const id of ids(SIZES.orders)) {
      const bought = product();
      const quantity = 1 + Math.floor(3 * random() ** 3);
      const status = id < SIZES.orders * 0.95 ? 'shipped' : 'placed';
      const time = risingTime(random, id - 1, SIZES.orders);
      yield [id, user(), bought, quantity, money(quantity * centsOf(bought)), status, time];
    }
  },

  /** The first tenth of them: see REPEATS. */
  *events() {
    const random = seeded(12);
    const product = popularProduct(random, 1);
    const user = popularUser(random, 0.6);
    for (const id of ids(SIZES.events / 10)) {
      const seen = product();
      const kind = random();
      const time = risingTime(random, id - 1, SIZES.events);
      if (kind < 0.9) yield [id, user(), seen, 'view', null, time];
      else if (kind < 0.96) yield [id, user(), seen, 'cart', null, time];
      else yield [id, user(), seen, 'purchase', money(centsOf(seen)), time];
    }
  },
} satisfies Partial<Record<TableName, () => Iterable<Row>>>;

/** Writing 200k events out takes longer than all other tables: nine tenths repeat the first, later and by other users. */
export const REPEATS: Partial<Record<TableName, readonly string[]>> = {
  events: ids(9).map(
    (tenth) => `INSERT INTO events SELECT id + ${(tenth * SIZES.events) / 10},
      MOD(user_id + ${tenth * 211}, ${SIZES.users}) + 1, product_id, kind, amount,
      created_at + INTERVAL ${(tenth * YEAR_MS) / 10_000} SECOND FROM events WHERE id <= ${SIZES.events / 10}`,
  ),
};
