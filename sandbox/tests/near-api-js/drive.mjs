// Drives a sandbox with near-api-js: a view, a transfer that reaches FINAL, and a call that fails.
// Usage: node drive.mjs CREDENTIALS.json. Prints "ok", or fails with what was wrong.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Account, JsonRpcProvider, actions } from "near-api-js";

const credentials = JSON.parse(readFileSync(process.argv[2], "utf8"));
const provider = new JsonRpcProvider({ url: credentials.rpc });
const account = new Account(credentials.account, provider, credentials.keys[0]);
const receiver = credentials.receivers[0];

const view = (method, args = {}) =>
  provider.callFunction({ contractId: credentials.ft, method, args, blockQuery: { finality: "final" } });
const balance = async (id) => BigInt(await view("ft_balance_of", { account_id: id }));
const ftTransfer = (receiver_id, amount) =>
  actions.functionCall("ft_transfer", { receiver_id, amount, memo: null }, 10_000_000_000_000n, 1n);

assert.equal((await provider.viewNodeStatus()).chain_id, "localnet");
assert.equal((await view("ft_metadata")).decimals, 24);
const supply = BigInt(await view("ft_total_supply"));
const before = { sender: await balance(credentials.account), receiver: await balance(receiver) };
assert.equal(before.sender + before.receiver <= supply, true);

const sent = await account.signAndSendTransaction({
  receiverId: credentials.ft,
  actions: [ftTransfer(receiver, "41"), ftTransfer(receiver, "1")],
  waitUntil: "FINAL",
});
assert.equal(sent.final_execution_status, "FINAL");
assert.equal(sent.status.SuccessValue, "");
assert.equal(await balance(receiver), before.receiver + 42n, "moved once");
assert.equal(await balance(credentials.account), before.sender - 42n);

const status = await provider.viewTransactionStatus({
  txHash: sent.transaction.hash,
  accountId: credentials.account,
  waitUntil: "FINAL",
});
assert.deepEqual(status.receipts_outcome, sent.receipts_outcome);

const unregistered = `nobody.${credentials.account}`;
await assert.rejects(
  account.signAndSendTransaction({
    receiverId: credentials.ft,
    actions: [ftTransfer(receiver, "1"), ftTransfer(unregistered, "1")],
    waitUntil: "FINAL",
    throwOnFailure: true,
  }),
  (error) => {
    const shown = `${error.message} ${JSON.stringify(error)}`;
    assert.match(shown, new RegExp(`The account ${unregistered} is not registered`));
    return true;
  },
);
assert.equal(await balance(receiver), before.receiver + 42n, "a failed batch moves nothing");

const state = await account.getState();
assert.equal(state.balance.total > 0n, true);
const keys = await provider.viewAccessKeyList({ accountId: credentials.account, finalityQuery: { finality: "final" } });
assert.equal(keys.keys.length, credentials.keys.length + 1);
console.log("ok");
