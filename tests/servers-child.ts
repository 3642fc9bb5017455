import { openServers } from '../course/servers/open';

// A program that opens servers, says where it is, and ends as its argument says.
async function main(): Promise<void> {
  const servers = await openServers({ install: 'no' });
  console.log(JSON.stringify({ redis: servers.redis, mysql: servers.mysql }));
  switch (process.argv[2]) {
    case 'close':
      await servers.close();
      break;
    case 'throw':
      throw new Error('thrown on purpose');
    default:
      setInterval(() => {}, 1000);
  }
}
void main();
