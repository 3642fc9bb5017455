import { openStack } from '../course/stack/open';

// A program that opens a stack, says where it is, and ends as its argument says.
const stack = await openStack({ install: 'no' });
console.log(JSON.stringify({ redis: stack.redis, mysql: stack.mysql }));
switch (process.argv[2]) {
  case 'close':
    await stack.close();
    break;
  case 'throw':
    throw new Error('thrown on purpose');
  default:
    setInterval(() => {}, 1000);
}
