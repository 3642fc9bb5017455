import type { Connection, RowDataPacket } from 'mysql2/promise';

/** The schema that lab tests use, and the name of the lock under which runs take turns. */
export const SCHEMA = 'caching_deep_dive';
/** The schema that `npm run servers` fills for exploring. */
export const SHOP_SCHEMA = 'caching_deep_dive_shop';
/** A Redis database with this key may be emptied. */
export const REDIS_MARK = 'caching-deep-dive:ours';
/** A schema with this table may be dropped. */
const MARK_TABLE = 'course_mark';

/** Who made what is in `schema`: `nobody` when it is empty or not there. */
export async function ownerOf(admin: Connection, schema: string): Promise<'nobody' | 'course' | 'someone'> {
  const [rows] = await admin.query<RowDataPacket[]>(
    'SELECT COUNT(*) AS total, SUM(table_name = ?) AS marks FROM information_schema.tables WHERE table_schema = ?',
    [MARK_TABLE, schema],
  );
  if (Number(rows[0]?.marks) > 0) return 'course';
  return Number(rows[0]?.total) > 0 ? 'someone' : 'nobody';
}

/** Makes `schema` anew, marks it as the course's and changes to it. Refuses to touch one that someone else filled. */
export async function freshSchema(admin: Connection, schema: string): Promise<void> {
  if ((await ownerOf(admin, schema)) === 'someone') throw new Error(foreignSchema(schema));
  await admin.query(`DROP SCHEMA IF EXISTS ${schema}`);
  await admin.query(`CREATE SCHEMA ${schema} CHARACTER SET utf8mb4`);
  await admin.query(`USE ${schema}`);
  await admin.query(`CREATE TABLE ${MARK_TABLE} (made_by VARCHAR(40) PRIMARY KEY)`);
}

/** Drops `schema` if the course made it. */
export async function dropSchema(admin: Connection, schema: string): Promise<void> {
  if ((await ownerOf(admin, schema)) === 'course') await admin.query(`DROP SCHEMA ${schema}`);
}

/** One run at a time works in the schema and the Redis database; its end, even by SIGKILL, ends its turn. */
export async function takeTurn(admin: Connection, waitSeconds: number): Promise<boolean> {
  const [rows] = await admin.query<RowDataPacket[]>('SELECT GET_LOCK(?, ?) AS got', [SCHEMA, waitSeconds]);
  return rows[0]?.got === 1;
}

export const foreignSchema = (schema: string) =>
  `The schema ${schema} holds tables that the course did not make, and the course empties its schema before each ` +
  `test file. Rename or drop it (DROP SCHEMA ${schema}), or point MYSQL_URL at another server.`;
