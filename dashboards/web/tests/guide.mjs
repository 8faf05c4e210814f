// The steps of docs/guide, one after the other: what its pages tell the reader to click is clicked here.

const button = (within, name) => within.getByRole('button', { name, exact: true });
const region = (page, name) => page.getByRole('region', { name, exact: true });

/**
 * Reads the fleet, one workload and one of its decisions, sets a target and takes it back.
 *
 * `address` makes an address that may write out of a path; `change` has new values by the labels of their fields;
 * `picture` is called with a name and what is to be seen.
 */
export async function walk({ page, address, workload, node, change, picture }) {
  const live = () => page.getByText(/^live/).waitFor();

  // Read the dashboard.
  await page.goto(address('/'));
  await live();
  await page.getByText('Last decisions').waitFor();
  await picture('fleet', page);
  await page.goto(address(`/nodes/${node}`));
  await region(page, 'Waits').waitFor();
  await picture('node', page);

  // Understand a decision.
  await page.goto(address(`/workloads/${workload}`));
  const decisions = region(page, 'Decisions');
  await decisions.locator('summary').first().waitFor();
  await picture('workload', page);
  const done = decisions.locator('li').filter({ has: page.getByTitle('carried out', { exact: true }) }).first();
  await done.locator('summary').click();
  await done.getByRole('heading', { name: 'Why' }).waitFor();
  await picture('decision', done);

  // Set a target.
  const before = (await (await fetch(new URL(`/api/v1/workloads/${workload}`, page.url()))).json()).revision;
  await button(page, 'Edit targets').click();
  const form = page.getByRole('form', { name: 'Targets of this workload' });
  for (const [label, value] of Object.entries(change)) await form.getByLabel(label).fill(value);
  await button(form, 'Preview').click();
  await region(page, 'Preview').waitFor();
  await picture('target', region(page, 'Edit targets'));
  await button(form, 'Apply').click();
  await page.getByRole('status').filter({ hasText: 'is in force' }).first().waitFor();

  // Undo it.
  const revisions = region(page, 'Revisions');
  await button(revisions, `Roll back… to revision ${before}`).click();
  await button(revisions, 'Preview').click();
  const back = button(revisions, `Roll back to revision ${before}`);
  await back.waitFor();
  await picture('undo', revisions);
  await back.click();
  await page.getByRole('status').filter({ hasText: `as in revision ${before} again` }).first().waitFor();
}
