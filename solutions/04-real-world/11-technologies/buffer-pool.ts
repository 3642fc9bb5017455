import type { Pool, RowDataPacket } from 'mysql2/promise';
import { type Claim, median } from '#claims';

const SCANS = 5;
const FINDS = 100;

/** A query without an index, on a table that is in the buffer pool: perfect hits, and all the work. */
export async function bufferPoolClaims(db: Pool, quick: boolean): Promise<Claim[]> {
  const rows = quick ? 50_000 : 200_000;
  await db.query('CREATE TABLE scanned (id INT PRIMARY KEY, code INT NOT NULL, filler CHAR(200) NOT NULL)');
  const digits = Array.from({ length: 10 }, (_, digit) => `SELECT ${digit} AS d`).join(' UNION ALL ');
  const places = Array.from({ length: 6 }, (_, place) => `(${digits}) AS p${place}`).join(' CROSS JOIN ');
  const number = Array.from({ length: 6 }, (_, place) => `p${place}.d * ${10 ** place}`).join(' + ');
  await db.query(
    `INSERT INTO scanned SELECT n, n, 'x' FROM (SELECT ${number} AS n FROM ${places}) AS numbers WHERE n < ? ORDER BY n`,
    [rows],
  );
  const scan = () => db.query('SELECT id FROM scanned WHERE code = ?', [rows - 1]);
  const find = () => db.query('SELECT code FROM scanned WHERE id = ?', [rows - 1]);
  await scan();
  const before = await pages(db);
  const scanMs = await times(scan, SCANS);
  const after = await pages(db);
  const findMs = await times(find, FINDS);
  const requests = after.requests - before.requests;
  return [
    {
      name: 'pool-hits',
      says: 'page requests answered from the buffer pool during full scans',
      value: 100 * (1 - (after.reads - before.reads) / requests),
      unit: '%',
      atLeast: 99,
    },
    {
      name: 'pool-scan',
      says: 'time for one row, warm: full scan against primary key',
      value: scanMs / findMs,
      unit: '×',
      atLeast: 2,
    },
    { name: 'pool-rows', says: 'rows that each scan examines', value: rows, unit: 'rows' },
    { name: 'pool-pages', says: 'pages that each scan requests', value: requests / SCANS, unit: 'pages' },
    { name: 'pool-scan-ms', says: 'time of a full scan, warm', value: scanMs, unit: 'ms' },
  ];
}

async function times(query: () => Promise<unknown>, count: number): Promise<number> {
  const took: number[] = [];
  for (let time = 0; time < count; time++) {
    const began = performance.now();
    await query();
    took.push(performance.now() - began);
  }
  return median(took);
}

async function pages(db: Pool): Promise<{ requests: number; reads: number }> {
  const [status] = await db.query<RowDataPacket[]>("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_read%'");
  const of = (name: string) =>
    Number(status.find(({ Variable_name }) => Variable_name === `Innodb_buffer_pool_${name}`)?.Value);
  return { requests: of('read_requests'), reads: of('reads') };
}
