import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import {
  ABSENT_TTL_MS,
  decode,
  encode,
  type Outcome,
  PROFILE_TTL_MS,
  type Profile,
  type ProfileRow,
  profileKey,
  type Stats,
} from './given';

/** The textbook version: it counts, and measures nothing. */
// #region core
export function createProfileCache({ redis, db }: { redis: Redis; db: Pool }) {
  const counts = { hit: 0, negative: 0, miss: 0, error: 0 };

  async function lookUp(id: number): Promise<{ outcome: Outcome; profile: Profile | null }> {
    const text = await redis.get(profileKey(id));
    if (text !== null) {
      const profile = decode(text);
      return { outcome: profile === null ? 'negative' : 'hit', profile };
    }
    const byId = 'SELECT id, email, name, locale FROM users WHERE id = ?';
    const [rows] = await db.execute<ProfileRow[]>(byId, [id]);
    const profile = rows[0] ?? null;
    const ttlMs = profile === null ? ABSENT_TTL_MS : PROFILE_TTL_MS;
    await redis.set(profileKey(id), encode(profile), 'PX', ttlMs);
    return { outcome: 'miss', profile };
  }

  return {
    async get(id: number): Promise<Profile | null> {
      try {
        const { outcome, profile } = await lookUp(id);
        counts[outcome] += 1;
        return profile;
      } catch (error) {
        counts.error += 1;
        throw error;
      }
    },
    stats: (): Stats => ({ ...counts }),
  };
}
// #endregion
