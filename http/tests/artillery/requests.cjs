// The bodies that the profiles send: amounts, receivers and memos as the Node service's load tests have them.
'use strict';

const SANDBOX = ['user1', 'user2', 'user3', 'user4', 'user5', 'alice', 'bob', 'charlie'].map((name) => `${name}.test.near`);
const TESTNET = ['posma-badge.testnet', 'near-badge.testnet'];
const AMOUNTS = ['1000000000000000000000000', '5000000000000000000000000', '10000000000000000000000000'];

const pick = (list) => list[Math.floor(Math.random() * list.length)];
const transfer = (receiverId) => ({ receiverId, amount: pick(AMOUNTS), memo: `Load test ${Date.now()}` });
const many = (count, receiver) => ({ transfers: Array.from({ length: count }, () => transfer(receiver())) });

// A hook that gives a request its body.
const body = (make) => (params, context, events, done) => {
  params.json = make();
  done();
};

module.exports = {
  single: body(() => transfer(pick(SANDBOX))),
  two: body(() => many(2, () => pick(SANDBOX))),
  three: body(() => many(3, () => pick(SANDBOX))),
  fifteenToOne: body(() => {
    const receiver = pick(SANDBOX);
    return many(15, () => receiver);
  }),
  testnetSingle: body(() => transfer(pick(TESTNET))),
  testnetTwo: body(() => many(2, () => pick(TESTNET))),
  // One of the receivers has a leading space, as in the Node service's generated profile: always 400.
  generatedSingle: body(() => transfer(pick([TESTNET[0], ` ${TESTNET[1]}`]))),
  generatedTwo: body(() => many(2, () => pick([TESTNET[0], ` ${TESTNET[1]}`]))),
  plain: body(() => ({ receiverId: 'user1.test.near', amount: '1000000' })),
};
