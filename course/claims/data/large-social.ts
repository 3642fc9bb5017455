import type { Row, TableName } from '../../kit/data/schema';
import { seeded } from '../../kit/random';
import { anyUser, distinctPairs, ids, pick, popular, popularUser, risingTime, SIZES } from './dice';
import { FAMILY, GIVEN, LOCALES, REMARKS } from './words';

/** People, and what they say to each other. */
export const SOCIAL = {
  users: () => {
    const random = seeded(1);
    return ids(SIZES.users).map((id) => {
      const name = `${pick(random, GIVEN)} ${pick(random, FAMILY)}`;
      return [
        id,
        `user${id}@example.org`,
        name,
        pick(random, LOCALES),
        risingTime(random, id - 1, SIZES.users),
      ];
    });
  },

  *posts() {
    const random = seeded(8);
    const author = popularUser(random, 0.7);
    for (const id of ids(SIZES.posts)) {
      yield [id, author(), pick(random, REMARKS), risingTime(random, id - 1, SIZES.posts)];
    }
  },

  *follows() {
    const random = seeded(9);
    yield* distinctPairs(SIZES.follows, anyUser(random), popularUser(random, 0.9), random);
  },

  *likes() {
    const random = seeded(10);
    const post = popular(SIZES.posts, 0.8, 3571, random);
    yield* distinctPairs(SIZES.likes, post, anyUser(random), random);
  },

  *comments() {
    const random = seeded(11);
    const post = popular(SIZES.posts, 0.9, 3571, random);
    for (const id of ids(SIZES.comments)) {
      const remark = pick(random, REMARKS);
      yield [id, post(), anyUser(random)(), remark, risingTime(random, id - 1, SIZES.comments)];
    }
  },
} satisfies Partial<Record<TableName, () => Iterable<Row>>>;
