import { mount } from 'svelte';
import './app.css';
import App from './App.svelte';
import { live } from './api/live.svelte';
import { session } from './api/session.svelte';
import { router } from './lib/router.svelte';

session.start();
router.start();
live.start();
mount(App, { target: document.getElementById('app') ?? document.body });
