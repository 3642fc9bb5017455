import { findBinary } from '../servers/server';

/** What a person types to look around, one line a server. */
export function connectLines(redisUrl: string, mysqlUrl: string): string {
  const redis = new URL(redisUrl);
  // redis-cli sends an empty user name where the URL has none.
  if (redis.password && !redis.username) redis.username = 'default';
  const { hostname, port, username, password, pathname } = new URL(mysqlUrl);
  const client = findBinary('mariadb', 'mysql')?.replace(/.*\//, '') ?? 'mysql';
  const secret = password ? ` --password=${decodeURIComponent(password)}` : '';
  const user = decodeURIComponent(username);
  return `  redis-cli --no-auth-warning -u ${redis.href}
  ${client} --host=${hostname} --port=${port || 3306} --user=${user}${secret} ${pathname.slice(1)}`;
}
