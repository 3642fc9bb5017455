import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import {
  decode,
  encode,
  insertUser,
  selectUser,
  USER_TTL_MS,
  type User,
  type UserData,
  userKey,
} from './given';

// #region core
const SET_IF_NEWER = `
  local held = redis.call('HGET', KEYS[1], 'version')
  if held and tonumber(held) >= tonumber(ARGV[1]) then return 0 end
  redis.call('HSET', KEYS[1], 'version', ARGV[1], 'row', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return 1`;

/** The textbook version, with a version. When Redis fails, it fails too. */
export function createUsers({ redis, db }: { redis: Redis; db: Pool }) {
  const store = (user: User) =>
    redis.eval(SET_IF_NEWER, 1, userKey(user.id), user.version, encode(user), USER_TTL_MS);

  async function loadAndStore(id: number): Promise<User | null> {
    const user = await selectUser(db, id);
    if (user) await store(user);
    return user;
  }

  return {
    async find(id: number): Promise<User | null> {
      const cached = await redis.hget(userKey(id), 'row');
      return cached === null ? loadAndStore(id) : decode(cached);
    },

    async create(data: UserData): Promise<User | null> {
      return loadAndStore(await insertUser(db, data));
    },

    async update(id: number, changes: Partial<UserData>): Promise<User | null> {
      const columns = Object.keys(changes).map((column) => `${column} = ?`);
      await db.query(`UPDATE users SET ${columns.join(', ')}, version = version + 1 WHERE id = ?`, [
        ...Object.values(changes),
        id,
      ]);
      return loadAndStore(id);
    },
  };
}
// #endregion
